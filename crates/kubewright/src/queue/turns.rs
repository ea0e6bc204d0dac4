//! Whose turn it is among the ready keys: by priority, and among those of one priority round the tenants. Every ninth
//! turn goes to a lower priority, so that none starves. A key whose priority rises leaves its place behind; such places
//! are cleared before they are more than half.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Priority;

/// Turns in a row of the highest priority while lower ones wait.
const IN_A_ROW: u32 = 8;
/// Lanes that stay when they are empty, so that a queue which is short makes none anew for every item.
const KEPT: usize = 8;

/// Says whether a key is still to be found at the place of a ticket.
pub(super) type Current<'a, K> = &'a dyn Fn(&K, u64) -> bool;

/// The ready keys in the order of their turns.
#[derive(Debug)]
pub(super) struct Turns<K> {
    lanes: BTreeMap<Reverse<Priority>, Lane<K>>,
    /// Turns of the highest priority since a lower one had one.
    in_a_row: u32,
    /// The priority below the highest that had a turn last.
    last_lower: Priority,
    len: usize,
}

impl<K> Turns<K> {
    pub(super) fn new() -> Turns<K> {
        Turns { lanes: BTreeMap::new(), in_a_row: 0, last_lower: Priority(i32::MAX), len: 0 }
    }

    /// How many keys are ready.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many keys of each priority are ready, the highest first. Priorities with none may be among them.
    pub(super) fn by_priority(&self) -> impl Iterator<Item = (Priority, usize)> {
        self.lanes.iter().map(|(Reverse(priority), lane)| (*priority, lane.len))
    }

    /// Places held, those left behind included.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.lanes.values().map(Lane::places).sum()
    }

    /// Queues a key last among those of its priority and tenant.
    pub(super) fn push(&mut self, priority: Priority, tenant: Option<&Arc<str>>, key: K, ticket: u64) {
        self.lanes.entry(Reverse(priority)).or_default().push(tenant, key, ticket);
        self.len += 1;
    }

    /// A key left its place, in whose stead `is_current` knows another or none.
    pub(super) fn withdraw(
        &mut self,
        priority: Priority,
        tenant: Option<&Arc<str>>,
        is_current: Current<'_, K>,
    ) {
        if let Some(lane) = self.lanes.get_mut(&Reverse(priority)) {
            lane.withdraw(tenant, is_current);
            self.len -= 1;
            self.close(priority);
        }
    }

    /// The key whose turn it is.
    pub(super) fn next(&mut self, is_current: Current<'_, K>) -> Option<K> {
        let mut waiting = self.lanes.iter().filter(|(_, lane)| lane.len > 0);
        let (Reverse(highest), _) = waiting.next()?;
        let (highest, others) = (*highest, waiting.next().is_some());
        let turn = if !others {
            self.in_a_row = 0;
            highest
        } else if self.in_a_row < IN_A_ROW {
            self.in_a_row += 1;
            highest
        } else {
            self.in_a_row = 0;
            self.last_lower = self.lower(highest).unwrap_or(highest);
            self.last_lower
        };
        let key = self.lanes.get_mut(&Reverse(turn))?.next(is_current)?;
        self.len -= 1;
        self.close(turn);
        Some(key)
    }

    /// Which priority below the highest has its turn: they take it one after another.
    fn lower(&self, highest: Priority) -> Option<Priority> {
        let below = |priority: Priority| {
            let rest = self.lanes.range((Bound::Excluded(Reverse(priority)), Bound::Unbounded));
            rest.filter(|(_, lane)| lane.len > 0).map(|(Reverse(priority), _)| *priority).next()
        };
        below(self.last_lower.min(highest)).or_else(|| below(highest))
    }

    fn close(&mut self, priority: Priority) {
        if self.lanes.len() > KEPT && self.lanes.get(&Reverse(priority)).is_some_and(|lane| lane.len == 0) {
            self.lanes.remove(&Reverse(priority));
        }
    }
}

/// The keys of one priority.
#[derive(Debug)]
struct Lane<K> {
    /// Those of a queue without tenants.
    line: Line<K>,
    /// Those of each tenant; all of the ring are here.
    lines: HashMap<Arc<str>, Line<K>, RandomState>,
    /// The tenants in the order of their turns.
    ring: VecDeque<Arc<str>>,
    /// Tenants of the ring without a key: all of theirs were withdrawn.
    without: usize,
    len: usize,
}

impl<K> Default for Lane<K> {
    fn default() -> Self {
        Lane { line: Line::default(), lines: HashMap::default(), ring: VecDeque::new(), without: 0, len: 0 }
    }
}

impl<K> Lane<K> {
    #[cfg(test)]
    fn places(&self) -> usize {
        let lines = self.lines.values().map(|line| line.entries.len()).sum::<usize>();
        self.line.entries.len() + lines.max(self.ring.len())
    }

    fn push(&mut self, tenant: Option<&Arc<str>>, key: K, ticket: u64) {
        self.len += 1;
        let Some(tenant) = tenant else { return self.line.entries.push_back((key, ticket)) };
        match self.lines.get_mut(tenant) {
            Some(line) => {
                self.without -= usize::from(line.len() == 0);
                line.entries.push_back((key, ticket));
            }
            None => {
                let line = Line { entries: [(key, ticket)].into(), left: 0 };
                self.lines.insert(Arc::clone(tenant), line);
                self.ring.push_back(Arc::clone(tenant));
            }
        }
    }

    fn next(&mut self, is_current: Current<'_, K>) -> Option<K> {
        let Some(tenant) = self.turn() else {
            let key = self.line.next(is_current)?;
            self.len -= 1;
            return Some(key);
        };
        let line = self.lines.get_mut(&tenant)?;
        let key = line.next(is_current)?;
        self.len -= 1;
        if line.len() == 0 {
            self.lines.remove(&tenant);
        } else {
            self.ring.push_back(tenant);
        }
        self.tidy();
        Some(key)
    }

    /// The tenant whose turn it is, out of the ring.
    fn turn(&mut self) -> Option<Arc<str>> {
        loop {
            let tenant = self.ring.pop_front()?;
            if self.lines.get(&tenant).is_some_and(|line| line.len() > 0) {
                return Some(tenant);
            }
            self.lines.remove(&tenant);
            self.without -= 1;
        }
    }

    fn withdraw(&mut self, tenant: Option<&Arc<str>>, is_current: Current<'_, K>) {
        self.len -= 1;
        let Some(tenant) = tenant else { return self.line.withdraw(is_current) };
        let Some(line) = self.lines.get_mut(tenant) else { return };
        line.withdraw(is_current);
        if line.len() > 0 {
            return;
        }
        self.without += 1;
        self.tidy();
    }

    /// Clears tenants without a key once they are more than half.
    fn tidy(&mut self) {
        if self.without * 2 > self.ring.len() {
            self.lines.retain(|_, line| line.len() > 0);
            self.ring.retain(|tenant| self.lines.contains_key(tenant));
            self.without = 0;
        }
    }
}

/// Keys in order, with the tickets under which they were queued.
#[derive(Debug)]
struct Line<K> {
    entries: VecDeque<(K, u64)>,
    /// Places that their keys have left.
    left: usize,
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        Line { entries: VecDeque::new(), left: 0 }
    }
}

impl<K> Line<K> {
    fn len(&self) -> usize {
        self.entries.len() - self.left
    }

    fn next(&mut self, is_current: Current<'_, K>) -> Option<K> {
        loop {
            let (key, ticket) = self.entries.pop_front()?;
            if self.left == 0 || is_current(&key, ticket) {
                self.tidy(is_current);
                return Some(key);
            }
            self.left -= 1;
        }
    }

    fn withdraw(&mut self, is_current: Current<'_, K>) {
        self.left += 1;
        self.tidy(is_current);
    }

    /// Clears the places that are left once they are more than half, which pays for itself.
    fn tidy(&mut self, is_current: Current<'_, K>) {
        if self.left * 2 > self.entries.len() {
            self.entries.retain(|(key, ticket)| is_current(key, *ticket));
            self.left = 0;
        }
    }
}
