//! What the catalog holds is started again.

use squilla_engine::failpoint::Failpoint;
use squilla_query::Params;

use super::{Refusal, Service};
use crate::catalog::{Body, Definition, Stored, StoredKind};

impl Service {
    /// Carries out what the catalog holds, in the order of creation. A stream that was altered may read what was created
    /// after it: that comes first.
    pub(super) async fn restore(&self) -> Result<(), Refusal> {
        let _turn = self.take_turn().await;
        let mut left = self.store.all().await?;
        let logs: Vec<(&str, u32)> = left.iter().map(|stored| (stored.name.as_str(), stored.log)).collect();
        if let Err(error) = self.engine.remove_logs_but(&logs).await {
            tracing::error!(%error, "what dropped and altered streams have left cannot be removed");
        }
        while !left.is_empty() {
            let count = left.len();
            let mut waiting = Vec::new();
            for stored in left {
                Failpoint::CatalogRestores.pass();
                if stored.kind == StoredKind::Insert && stored.finished {
                    self.store.remove(vec![stored.id]).await?;
                    continue;
                }
                if let Err(refusal) = self.restore_one(&stored).await {
                    waiting.push((stored, refusal));
                }
            }
            let (later, broken): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(_, refusal)| reads_unknown(refusal));
            for (stored, refusal) in broken {
                self.keep_broken(stored, &refusal);
            }
            if later.len() == count {
                // What they read is nowhere.
                later.into_iter().for_each(|(stored, refusal)| self.keep_broken(stored, &refusal));
                return Ok(());
            }
            left = later.into_iter().map(|(stored, _)| stored).collect();
        }
        Ok(())
    }

    async fn restore_one(&self, stored: &Stored) -> Result<(), Refusal> {
        let analyzed = self.analyze(&stored.sql, &Params::new()).await?;
        self.define(&stored.sql, analyzed, Some(stored)).await.map(drop)
    }

    fn keep_broken(&self, stored: Stored, refusal: &Refusal) {
        tracing::error!(kind = stored.kind.word(), name = stored.name, reason = %refusal, "could not be started again");
        if stored.kind == StoredKind::Insert {
            // The sink is shown without a feed; its statement stays for the next start.
            return;
        }
        let body = Body::Broken { kind: stored.kind, reason: refusal.to_string() };
        let definition = Definition { id: stored.id, name: stored.name, reads: Vec::new(), sql: stored.sql, body };
        self.set_names(self.names().with(definition));
    }
}

/// Whether it reads what has not been started again yet.
fn reads_unknown(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Mistakes(mistakes) if mistakes.iter().any(|mistake| mistake.code == "unknown_relation"))
}
