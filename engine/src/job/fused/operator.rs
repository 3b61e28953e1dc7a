//! What runs: the operators of all steps, each handing its rows to the next at once.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::{From, FusedJob, LimbSpec};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::job::Pipeline;
use crate::job::stage::Setting;
use crate::operator::{Operator, Output, State};
use crate::stream::Offset;

/// The steps of a query as one operator.
///
/// - Schema: that of the query. Input are the partitions of all leaves, numbered through; output those of what the result
///   is made of, numbered through.
/// - Watermark: as each step hands it on.
/// - State: that of all steps, together bounded by the budget of a query. Each step's rows have offsets of their own, as
///   if they lay in a stream.
/// - Errors: those of the steps.
/// - Example: sessions of visitors, counted by the hour: two steps, one state.
///
/// Rows that a step hands to another have come out of it, and come in once more: the counters' sum holds for all steps
/// together.
///
/// Operator fusion as in section 4 of Hirzel et al., "A Catalog of Stream Processing Optimizations" (ACM Computing
/// Surveys 46, 2014).
pub(super) struct Fused {
    steps: Vec<Step>,
    /// For each leaf the first of its partitions, and where its rows go.
    doors: Vec<(u32, Door)>,
    schema: SchemaRef,
    /// The result is the last step's as it is: its running results can be read.
    tells_updates: bool,
    state_limit_bytes: usize,
    counters: Arc<Counters>,
}

/// The fields and partitions of what a step reads.
type Inputs = Vec<(SchemaRef, u32)>;

/// Where rows go next.
#[derive(Debug, Clone, Copy, Default)]
struct Door {
    /// `None`: they are told.
    step: Option<usize>,
    /// What number their first partition has there.
    first: u32,
}

struct Step {
    operator: Box<dyn Operator>,
    up: Door,
    /// What is done to its rows on the way; `None`: nothing.
    way: Option<Pipeline>,
    /// The offset of its next row.
    next: Offset,
    /// Partitions of its inputs that have not ended.
    running: u32,
    /// For each partition of its inputs one of the leaves' that it comes from.
    lanes: Vec<u32>,
}

impl Fused {
    pub(super) fn new(job: &FusedJob, setting: &Setting) -> Result<Self, EngineError> {
        let fusion = &job.fusion;
        let mut firsts = Vec::new();
        let mut all = 0;
        for (_, partitions) in &setting.inputs {
            firsts.push(all);
            all += partitions;
        }
        let mut fused = Self {
            steps: Vec::new(),
            doors: firsts.iter().map(|first| (*first, Door::default())).collect(),
            schema: crate::batch::physical_schema(&job.schema),
            tells_updates: job.shared_as.is_some(),
            state_limit_bytes: setting.state_limit_bytes,
            counters: setting.counters.clone(),
        };
        for (at, spec) in fusion.steps.iter().enumerate() {
            let (inputs, lanes) = fused.connect(&spec.limbs, Some(at), setting)?;
            let (start, missing_before) = job.begins.steps.get(at).copied().unwrap_or((EventTime::MIN, EventTime::MIN));
            let own = Setting {
                inputs,
                sides: spec.limbs.iter().map(|limb| limb.right).collect(),
                start,
                missing_before,
                forgets: setting.forgets,
                state_limit_bytes: setting.state_limit_bytes,
                counters: setting.counters.clone(),
                crew: None,
            };
            let operator = spec.job.operator(own)?;
            let running = u32::try_from(lanes.len()).unwrap_or(u32::MAX);
            fused.steps.push(Step { operator, up: Door::default(), way: None, next: Offset(0), running, lanes });
        }
        fused.connect(&fusion.root, None, setting)?;
        Ok(fused)
    }

    /// Leads what limbs read to a step; their fields and partitions, and for each partition a leaf's that it comes from.
    fn connect(
        &mut self,
        limbs: &[LimbSpec],
        step: Option<usize>,
        setting: &Setting,
    ) -> Result<(Inputs, Vec<u32>), EngineError> {
        let (mut inputs, mut lanes) = (Vec::new(), Vec::new());
        for limb in limbs {
            let door = Door { step, first: u32::try_from(lanes.len()).unwrap_or(u32::MAX) };
            match limb.from {
                From::Leaf(leaf) => {
                    let (schema, partitions) = &setting.inputs[leaf];
                    let (first, to) = &mut self.doors[leaf];
                    *to = door;
                    lanes.extend(*first..*first + partitions);
                    inputs.push((schema.clone(), *partitions));
                }
                From::Step(below) => {
                    let below = &mut self.steps[below];
                    below.up = door;
                    let mut schema = below.operator.schema().clone();
                    if !limb.ops.is_empty() {
                        let way = Pipeline::new(&schema, &limb.ops, None, &setting.counters)?;
                        schema = way.schema().clone();
                        below.way = Some(way);
                    }
                    lanes.push(below.lanes.first().copied().unwrap_or_default());
                    inputs.push((schema, 1));
                }
            }
        }
        Ok((inputs, lanes))
    }

    /// Where rows of a leaf's partition go, and its number there.
    fn door(&self, partition: u32) -> (Door, u32) {
        let at = self.doors.partition_point(|(first, _)| *first <= partition).saturating_sub(1);
        let (first, door) = self.doors[at];
        (door, door.first + partition - first)
    }

    /// Hands a batch to a step, or tells it.
    fn pass(&mut self, step: Option<usize>, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let Some(at) = step else {
            output.rows.push(batch);
            return Ok(());
        };
        let mut own = Output::default();
        self.steps[at].operator.process(batch, &mut own)?;
        self.rise(at, own, output)
    }

    /// Hands on what a step has told.
    fn rise(&mut self, at: usize, own: Output, output: &mut Output) -> Result<(), EngineError> {
        let step = &mut self.steps[at];
        output.updates.extend(own.updates);
        for mut late in own.late {
            late.partition = step.lanes.get(late.partition as usize).copied().unwrap_or_default();
            output.late.push(late);
        }
        let up = step.up;
        let mut passed = Vec::new();
        for mut batch in own.rows {
            let rows = batch.rows.num_rows();
            batch.first = step.next;
            batch.next = Offset(step.next.0 + rows as u64);
            step.next = batch.next;
            if up.step.is_some() || step.way.is_some() {
                // What came out comes in again.
                add(&self.counters.rows_in, rows);
                self.counters.rows_out.fetch_sub(rows as u64, std::sync::atomic::Ordering::Relaxed);
            }
            match &mut step.way {
                None => passed.push(batch),
                Some(way) => {
                    let told = way.process(batch)?;
                    if up.step.is_none() {
                        told.iter().for_each(|batch| count_told(&self.counters, batch));
                    }
                    passed.extend(told);
                }
            }
        }
        for mut batch in passed {
            batch.partition = up.first;
            self.pass(up.step, batch, output)?;
        }
        Ok(())
    }

    fn end(&mut self, step: Option<usize>, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        let Some(at) = step else { return Ok(()) };
        let mut own = Output::default();
        self.steps[at].operator.end_partition(partition, &mut own)?;
        self.rise(at, own, output)?;
        let step = &mut self.steps[at];
        step.running = step.running.saturating_sub(1);
        let (ended, up) = (step.running == 0, step.up);
        if ended { self.end(up.step, up.first, output) } else { Ok(()) }
    }

    fn last(&mut self) -> Option<&mut Step> {
        self.steps.last_mut().filter(|_| self.tells_updates)
    }
}

/// Rows that are told as they came.
fn count_told(counters: &Counters, batch: &StreamBatch) {
    add(&counters.passed, batch.rows.num_rows());
    add(&counters.rows_out, batch.rows.num_rows());
}

impl Operator for Fused {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, mut batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let (door, partition) = self.door(batch.partition);
        batch.partition = partition;
        if door.step.is_none() {
            count_told(&self.counters, &batch);
        }
        self.pass(door.step, batch, output)?;
        let (used_bytes, limit_bytes) = (self.state_bytes(), self.state_limit_bytes);
        if self.steps.len() > 1 && used_bytes > limit_bytes {
            return Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes });
        }
        Ok(())
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        let (door, partition) = self.door(partition);
        self.end(door.step, partition, output)
    }

    fn track_updates(&mut self, on: bool) {
        if let Some(step) = self.last() {
            step.operator.track_updates(on);
        }
    }

    fn track_late(&mut self, on: bool) {
        self.steps.iter_mut().for_each(|step| step.operator.track_late(on));
    }

    fn tick(&mut self, output: &mut Output) -> Result<(), EngineError> {
        self.last().map_or(Ok(()), |step| step.operator.tick(output))
    }

    fn snapshot(&mut self) -> Result<Vec<StreamBatch>, EngineError> {
        self.last().map_or(Ok(Vec::new()), |step| step.operator.snapshot())
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        state.put(&self.steps.iter().map(|step| step.next).collect::<Vec<_>>())?;
        for step in &mut self.steps {
            step.operator.save(state)?;
            step.way.as_mut().map_or(Ok(()), |way| way.save(state))?;
        }
        Ok(())
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let next: Vec<Offset> = state.take()?;
        if next.len() != self.steps.len() {
            return Err(EngineError::State(format!("{} steps where {} were to be", next.len(), self.steps.len())));
        }
        for (step, next) in self.steps.iter_mut().zip(next) {
            step.next = next;
            step.operator.restore(state)?;
            step.way.as_mut().map_or(Ok(()), |way| way.restore(state))?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.steps.iter().map(|step| step.operator.state_bytes()).sum()
    }
}
