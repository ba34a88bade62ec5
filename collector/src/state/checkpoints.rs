//! Checkpoints of the pipeline, in parts, so that the outputs of a commit never wait for a large one.
//!
//! Parts may come over many transactions. A checkpoint counts once its last part is there
//! ([`State::complete_checkpoint`]); by then the outputs that it goes with were written. What a crash left
//! half done is removed with the next one's parts, as are checkpoints that later ones have replaced.

use super::{State, StateError};
use rusqlite::{Transaction, params};

/// Checkpoints kept: the newest, and the one before in case the newest cannot be read.
const CHECKPOINTS_KEPT: i64 = 2;

pub(super) const TABLES: &str = "
CREATE TABLE checkpoint(id INTEGER PRIMARY KEY);
CREATE TABLE checkpoint_part(checkpoint INTEGER NOT NULL, part INTEGER NOT NULL, bytes BLOB NOT NULL);
CREATE UNIQUE INDEX checkpoint_part_by_place ON checkpoint_part(checkpoint, part);
";

/// A checkpoint that is being written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointId(i64);

impl State {
    /// A new checkpoint; its parts follow. What is left of another one that is not complete may go.
    pub fn begin_checkpoint(&self) -> Result<CheckpointId, StateError> {
        let last: i64 = self.connection.query_row(
            "SELECT max(coalesce((SELECT max(id) FROM checkpoint), 0),
                coalesce((SELECT max(checkpoint) FROM checkpoint_part), 0))",
            [],
            |row| row.get(0),
        )?;
        Ok(CheckpointId(last + 1))
    }

    /// Writes its next parts, of which the first has the number `from`, and makes room for as many.
    pub fn write_parts(&mut self, id: CheckpointId, from: u32, parts: &[Vec<u8>]) -> Result<(), StateError> {
        let transaction = self.connection.transaction()?;
        // What comes before frees the pages that it takes.
        evict(&transaction, id, Some(2 * parts.len()))?;
        write(&transaction, id, from, parts)?;
        Ok(transaction.commit()?)
    }

    /// All of its parts are written: from now on a start may begin with it.
    pub fn complete_checkpoint(&mut self, id: CheckpointId) -> Result<(), StateError> {
        let transaction = self.connection.transaction()?;
        complete(&transaction, id)?;
        Ok(transaction.commit()?)
    }

    /// Writes a checkpoint all at once, and nothing but it and the one before is left.
    pub fn write_checkpoint(&mut self, parts: &[Vec<u8>]) -> Result<(), StateError> {
        let id = self.begin_checkpoint()?;
        let transaction = self.connection.transaction()?;
        evict(&transaction, id, None)?;
        write(&transaction, id, 0, parts)?;
        complete(&transaction, id)?;
        evict(&transaction, id, None)?;
        Ok(transaction.commit()?)
    }

    /// The complete checkpoints kept, newest first.
    pub fn checkpoints(&self) -> Result<Vec<CheckpointId>, StateError> {
        let mut statement = self
            .connection
            .prepare("SELECT id FROM checkpoint ORDER BY id DESC")?;
        let rows = statement.query_map([], |row| row.get(0).map(CheckpointId))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Tells the parts of a checkpoint in their order.
    pub fn read_checkpoint(&self, id: CheckpointId, mut tell: impl FnMut(&[u8])) -> Result<(), StateError> {
        let mut statement = self
            .connection
            .prepare("SELECT bytes FROM checkpoint_part WHERE checkpoint = ?1 ORDER BY part")?;
        let mut rows = statement.query([id.0])?;
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(0)?.as_blob();
            tell(bytes.map_err(|_| StateError::Corrupt("checkpoint_part.bytes"))?);
        }
        Ok(())
    }
}

fn write(to: &Transaction<'_>, id: CheckpointId, from: u32, parts: &[Vec<u8>]) -> Result<(), StateError> {
    for (number, bytes) in (from..).zip(parts) {
        to.prepare_cached("INSERT INTO checkpoint_part(checkpoint, part, bytes) VALUES (?1, ?2, ?3)")?
            .execute(params![id.0, number, bytes])?;
    }
    Ok(())
}

fn complete(to: &Transaction<'_>, id: CheckpointId) -> Result<(), StateError> {
    to.execute("INSERT INTO checkpoint(id) VALUES (?1)", [id.0])?;
    to.execute(
        "DELETE FROM checkpoint WHERE id NOT IN (SELECT id FROM checkpoint ORDER BY id DESC LIMIT ?1)",
        [CHECKPOINTS_KEPT],
    )?;
    Ok(())
}

/// Removes parts of what is no complete checkpoint and not this one: all of them, or so many.
fn evict(to: &Transaction<'_>, id: CheckpointId, most: Option<usize>) -> Result<(), StateError> {
    let most = most.map_or(-1, |most| i64::try_from(most).unwrap_or(i64::MAX));
    to.prepare_cached(
        "DELETE FROM checkpoint_part WHERE rowid IN (SELECT rowid FROM checkpoint_part
            WHERE checkpoint < ?1 AND checkpoint NOT IN (SELECT id FROM checkpoint) LIMIT ?2)",
    )?
    .execute([id.0, most])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, State) {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.sqlite")).unwrap();
        (dir, state)
    }

    fn parts(state: &State, id: CheckpointId) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        state
            .read_checkpoint(id, |part| parts.push(part.to_vec()))
            .unwrap();
        parts
    }

    /// Parts of all checkpoints, those half done included.
    fn rows(state: &State) -> i64 {
        let count = "SELECT count(*) FROM checkpoint_part";
        state.connection.query_row(count, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn two_checkpoints_are_kept_newest_first() {
        let (_dir, mut state) = open();
        for n in 1..=4 {
            state.write_checkpoint(&[vec![n], vec![n, n]]).unwrap();
        }
        let kept: Vec<_> = state.checkpoints().unwrap();
        let kept: Vec<_> = kept.into_iter().map(|id| parts(&state, id)).collect();
        assert_eq!(kept, [[vec![4], vec![4, 4]], [vec![3], vec![3, 3]]]);
        assert_eq!(rows(&state), 4, "nothing else is left");
    }

    #[test]
    fn what_is_not_complete_is_no_checkpoint_and_goes_with_the_next_ones_parts() {
        let (_dir, mut state) = open();
        state.write_checkpoint(&[vec![1]]).unwrap();
        let torn = state.begin_checkpoint().unwrap();
        state.write_parts(torn, 0, &[vec![2], vec![3]]).unwrap();
        let before = state.checkpoints().unwrap();
        assert_eq!((before.len(), parts(&state, before[0])), (1, vec![vec![1]]));
        let id = state.begin_checkpoint().unwrap();
        assert_ne!(id, torn);
        state.write_parts(id, 0, &[vec![4]]).unwrap();
        state.write_parts(id, 1, &[vec![5]]).unwrap();
        assert_eq!(state.checkpoints().unwrap(), before, "it is not complete yet");
        state.complete_checkpoint(id).unwrap();
        assert_eq!(state.checkpoints().unwrap(), [id, before[0]]);
        assert_eq!(parts(&state, id), [[4], [5]]);
        assert_eq!(rows(&state), 3);
    }

    #[test]
    fn a_replaced_checkpoint_goes_part_by_part() {
        let (_dir, mut state) = open();
        let large: Vec<_> = (0..20).map(|n| vec![n]).collect();
        for _ in 0..3 {
            state.write_checkpoint(&large).unwrap();
        }
        let id = state.begin_checkpoint().unwrap();
        state.write_parts(id, 0, &large[..5]).unwrap();
        state.complete_checkpoint(id).unwrap();
        assert_eq!(
            rows(&state),
            45,
            "the oldest is none any more, and is there still"
        );
        let id = state.begin_checkpoint().unwrap();
        state.write_parts(id, 0, &large[..5]).unwrap();
        assert_eq!(rows(&state), 40);
    }
}
