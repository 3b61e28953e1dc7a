//! Speculation: a record is laid out as those before it.
//!
//! Between two values of a record stands a *joint*: white space, a comma, a key and a colon, such as `,"price":`; the
//! first joint has the opening brace, the last the closing one and the line feed. The [`Layout`] knows the joints it
//! has seen and which came behind which. Reading a record is then mostly: compare the joint that came here last time,
//! skip the value, and so on; keys are not looked at one by one, and values only if they are wanted. After Y. Li et al.,
//! "Mison: A Fast JSON Parser for Data Analytics" (VLDB 2017), and S. Palkar et al., "Filter Before You Parse" (VLDB
//! 2018).
//!
//! What is unusual (an escape in a key, a line that is no object) is left to the full reader. Both read the same from
//! every valid record. Of an invalid one, the only thing that goes unnoticed here is an unknown escape or a control
//! character (but a line feed) inside a string that nobody reads.

use std::collections::HashMap;

use super::cursor;
use crate::format::column::Span;

/// Joints that are remembered. Further ones are read without being remembered: their keys are data.
const MAX_JOINTS: usize = 4_096;
/// Longest joint that is remembered, in bytes. With [`MAX_JOINTS`] it bounds what a decoder holds.
const MAX_JOINT_BYTES: usize = 512;
/// Joints that are tried behind a joint before all are looked through.
const TRIED: usize = 4;
/// Joints up to this length are compared in one step.
const SHORT: usize = 16;

/// Where every record starts: a joint without text.
const START: u32 = 0;
/// No joint.
const NONE: u32 = u32::MAX;

/// What follows a joint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// A value that nobody wants.
    Unwanted,
    /// The value of a column.
    Wanted(u32),
    /// The next record.
    End,
}

#[derive(Debug)]
struct Joint {
    text: Box<[u8]>,
    /// The text and which of its bits count, if it is short.
    short: Option<(u128, u128)>,
    then: Then,
    /// The joints that came behind it, the last first.
    next: [u32; TRIED],
}

impl Joint {
    fn new(text: &[u8], then: Then) -> Self {
        let short = (text.len() <= SHORT).then(|| {
            let (mut padded, mut mask) = ([0; SHORT], [0; SHORT]);
            padded[..text.len()].copy_from_slice(text);
            mask[..text.len()].fill(0xff);
            (u128::from_le_bytes(padded), u128::from_le_bytes(mask))
        });
        Self { text: text.into(), short, then, next: [NONE; TRIED] }
    }

    #[inline]
    fn starts(&self, rest: &[u8]) -> bool {
        match (self.short, rest.first_chunk()) {
            (Some((text, mask)), Some(first)) => u128::from_le_bytes(*first) & mask == text,
            _ => rest.starts_with(&self.text),
        }
    }
}

/// The joints of records.
#[derive(Debug)]
pub(super) struct Layout {
    joints: Vec<Joint>,
    by_text: HashMap<Box<[u8]>, u32>,
}

impl Layout {
    pub(super) fn new() -> Self {
        Self { joints: vec![Joint::new(b"", Then::Unwanted)], by_text: HashMap::new() }
    }

    /// Reads the record whose line begins at `at`, and says where the next line begins. `None`: it is for the full
    /// reader, and `cells` hold anything.
    #[inline]
    pub(super) fn follow(
        &mut self,
        block: &[u8],
        mut at: usize,
        columns: &HashMap<Box<[u8]>, usize>,
        cells: &mut [Span],
    ) -> Option<usize> {
        let mut from = START;
        loop {
            let rest = &block[at..];
            let (joint, length, then) = match self.known(rest, from) {
                Some(joint) => {
                    let found = &self.joints[joint as usize];
                    (joint, found.text.len(), found.then)
                }
                None => self.look(rest, from, columns)?,
            };
            at += length;
            if then == Then::End {
                return Some(at);
            }
            let (start, end) = skip_value(block, at)?;
            if let Then::Wanted(cell) = then {
                // Of a key that comes twice the last counts.
                cells[cell as usize] = Span::new(start, end);
            }
            at = end;
            from = joint;
        }
    }

    /// The joint at the beginning of `rest`, if it is one that came behind `from` lately.
    #[inline]
    fn known(&mut self, rest: &[u8], from: u32) -> Option<u32> {
        let next = self.joints[from as usize].next;
        for (tried, joint) in next.into_iter().enumerate() {
            if joint == NONE {
                return None;
            }
            if self.joints[joint as usize].starts(rest) {
                if tried > 0 {
                    self.joints[from as usize].next.swap(0, tried);
                }
                return Some(joint);
            }
        }
        None
    }

    /// Reads the joint at the beginning of `rest` and remembers it. A joint that is not remembered stands for
    /// [`START`].
    #[cold]
    fn look(&mut self, rest: &[u8], from: u32, columns: &HashMap<Box<[u8]>, usize>) -> Option<(u32, usize, Then)> {
        let (length, key) = read_joint(rest, from == START)?;
        let then = match key {
            None => Then::End,
            Some(key) => columns.get(key).map_or(Then::Unwanted, |column| Then::Wanted(*column as u32)),
        };
        let text = &rest[..length];
        let joint = match self.by_text.get(text) {
            Some(joint) => *joint,
            None if self.joints.len() < MAX_JOINTS && length <= MAX_JOINT_BYTES => {
                let joint = u32::try_from(self.joints.len()).expect("joints are limited");
                self.joints.push(Joint::new(text, then));
                self.by_text.insert(text.into(), joint);
                joint
            }
            None => return Some((START, length, then)),
        };
        let next = &mut self.joints[from as usize].next;
        next.rotate_right(1);
        next[0] = joint;
        Some((joint, length, then))
    }
}

/// Reads a joint: how long it is and the key, or no key at the record's end. `None`: it is for the full reader.
fn read_joint(rest: &[u8], first: bool) -> Option<(usize, Option<&[u8]>)> {
    let mut at = skip_blanks(rest, 0);
    match (rest.get(at)?, first) {
        (b'}', false) => {
            at = skip_blanks(rest, at + 1);
            return (rest.get(at)? == &b'\n').then_some((at + 1, None));
        }
        (b'{', true) | (b',', false) => at = skip_blanks(rest, at + 1),
        _ => return None,
    }
    if rest.get(at)? != &b'"' {
        return None;
    }
    let end = at + 1 + memchr::memchr3(b'"', b'\\', b'\n', &rest[at + 1..])?;
    let key = &rest[at + 1..end];
    if rest[end] != b'"' || key.iter().any(|byte| *byte < 0x20) {
        return None;
    }
    at = skip_blanks(rest, end + 1);
    if rest.get(at)? != &b':' {
        return None;
    }
    Some((skip_blanks(rest, at + 1), Some(key)))
}

/// White space within a line.
#[inline]
fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Where the value at `at` begins, past white space, and ends.
#[inline]
fn skip_value(block: &[u8], at: usize) -> Option<(usize, usize)> {
    match block.get(at)? {
        b'"' => Some((at, skip_string(block, at + 1)?)),
        b'-' | b'0'..=b'9' => Some((at, cursor::number(block, at).ok()?)),
        _ => {
            let at = skip_blanks(block, at);
            let end = cursor::value(block, at, 1).ok()?;
            // White space inside of a value may be a line feed, which ends the record.
            memchr::memchr(b'\n', &block[at..end]).is_none().then_some((at, end))
        }
    }
}

#[inline]
fn skip_string(block: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr3(b'"', b'\\', b'\n', block.get(at..)?)?;
        match block[at] {
            b'"' => return Some(at + 1),
            b'\\' if block.get(at + 1) != Some(&b'\n') => at += 2,
            _ => return None,
        }
    }
}
