//! Keys and their versions: the state of the memory engine, without locks, tasks or watchers.
//!
//! Writes come in with the revision they are to take and go into the key's chain of versions; reads name a revision.
//! A version that was replaced stays until [`Table::forget`] is told that nobody may ask for it any more. Deletions
//! are versions without a value, forgotten in the same way, so that nothing of a deleted key remains.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Entry, Event, EventKind, Expect, StoreError};

/// A key's value from one revision on; without a value where the key was deleted.
#[derive(Clone, Debug)]
struct Version {
    revision: u64,
    created: u64,
    value: Option<Bytes>,
}

#[derive(Debug)]
struct Chain {
    newest: Version,
    /// What `newest` replaced, ascending by revision.
    older: VecDeque<Version>,
}

/// All keys with all their versions since the last compaction.
#[derive(Debug, Default)]
pub(super) struct Table {
    chains: BTreeMap<Arc<str>, Chain>,
}

impl Version {
    fn entry(&self, key: &Arc<str>) -> Option<Entry> {
        let value = self.value.clone()?;
        Some(Entry { key: Arc::clone(key), value, created: self.created, revision: self.revision })
    }
}

impl Chain {
    fn at(&self, revision: u64) -> Option<&Version> {
        if self.newest.revision <= revision {
            return Some(&self.newest);
        }
        let after = self.older.partition_point(|version| version.revision <= revision);
        self.older.get(after.checked_sub(1)?)
    }

    fn replace(&mut self, next: Version) -> Version {
        let replaced = std::mem::replace(&mut self.newest, next);
        self.older.push_back(replaced.clone());
        replaced
    }
}

impl Table {
    pub(super) fn get(&self, key: &str, at: u64) -> Option<Entry> {
        let (key, chain) = self.chains.get_key_value(key)?;
        chain.at(at)?.entry(key)
    }

    /// The keys with `prefix` that exist at revision `at`, from strictly after `after` on.
    pub(super) fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
        at: u64,
    ) -> impl Iterator<Item = Found<'a>> + 'a {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.chains
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter_map(move |(key, chain)| {
                let version = chain.at(at)?;
                version.value.is_some().then_some(Found { key, version })
            })
    }

    /// Writes `value` at `revision`, if `expect` holds.
    pub(super) fn put(
        &mut self,
        key: &str,
        value: Bytes,
        expect: Expect,
        revision: u64,
    ) -> Result<Event, StoreError> {
        let Some((key, chain)) = self.chain_mut(key) else {
            if let Expect::Revision(_) = expect {
                return Err(StoreError::Conflict { current: None });
            }
            let key: Arc<str> = key.into();
            let newest = Version { revision, created: revision, value: Some(value.clone()) };
            self.chains.insert(Arc::clone(&key), Chain { newest, older: VecDeque::new() });
            return Ok(Event::put(revision, key, value, None));
        };
        check(key, &chain.newest, expect)?;
        let created = if chain.newest.value.is_some() { chain.newest.created } else { revision };
        let replaced = chain.replace(Version { revision, created, value: Some(value.clone()) });
        let previous = replaced.value.map(|value| (value, replaced.revision));
        Ok(Event::put(revision, Arc::clone(key), value, previous))
    }

    /// Deletes a key at `revision`, if `expect` holds; gives the last entry too.
    pub(super) fn delete(
        &mut self,
        key: &str,
        expect: Expect,
        revision: u64,
    ) -> Result<(Entry, Event), StoreError> {
        let (key, chain) = self.chain_mut(key).ok_or(StoreError::NotFound)?;
        let last = chain.newest.value.clone().ok_or(StoreError::NotFound)?;
        check(key, &chain.newest, expect)?;
        let created = chain.newest.created;
        let replaced = chain.replace(Version { revision, created, value: None });
        let event = Event::delete(revision, Arc::clone(key), last.clone(), replaced.revision);
        Ok((Entry { key: Arc::clone(key), value: last, created, revision }, event))
    }

    /// Forgets what `event` replaced. Called for every event up to a compacted revision, in order.
    pub(super) fn forget(&mut self, event: &Event) {
        let (keep_from, first) = match event.kind {
            EventKind::Put { created } => (event.revision, created),
            EventKind::Delete => (event.revision + 1, false),
        };
        if first {
            // Nothing was replaced, save perhaps a deletion, which that deletion's own event has forgotten.
            return;
        }
        let Some((_, chain)) = self.chain_mut(&event.key) else { return };
        while chain.older.front().is_some_and(|oldest| oldest.revision < keep_from) {
            chain.older.pop_front();
        }
        if chain.older.is_empty() {
            chain.older = VecDeque::new();
        } else if chain.older.capacity() > 16 && chain.older.len() < chain.older.capacity() / 4 {
            let half = chain.older.capacity() / 2;
            chain.older.shrink_to(half);
        }
        if chain.newest.value.is_none() && chain.newest.revision < keep_from {
            self.chains.remove(&event.key);
        }
    }

    /// Keys held (deleted ones included until forgotten), and versions of them.
    pub(super) fn size(&self) -> (usize, usize) {
        let versions = self.chains.values().map(|chain| 1 + chain.older.len()).sum();
        (self.chains.len(), versions)
    }

    fn chain_mut(&mut self, key: &str) -> Option<(&Arc<str>, &mut Chain)> {
        self.chains.range_mut::<str, _>((Bound::Included(key), Bound::Included(key))).next()
    }
}

/// A key that exists at the revision of a scan.
pub(super) struct Found<'a> {
    pub(super) key: &'a Arc<str>,
    version: &'a Version,
}

impl Found<'_> {
    pub(super) fn entry(&self) -> Option<Entry> {
        self.version.entry(self.key)
    }
}

fn check(key: &Arc<str>, newest: &Version, expect: Expect) -> Result<(), StoreError> {
    let current = newest.entry(key);
    let holds = match (expect, &current) {
        (Expect::Any, _) | (Expect::Absent, None) => true,
        (Expect::Revision(expected), Some(current)) => current.revision == expected,
        (Expect::Absent, Some(_)) | (Expect::Revision(_), None) => false,
    };
    if holds { Ok(()) } else { Err(StoreError::Conflict { current }) }
}
