//! Who is to have which objects: the space of hashes is cut into 64 slots, and a table says whose each slot
//! is. Pure: who should have what follows from the table and the members alone, and moves as little as it can.

use std::collections::{BTreeMap, BTreeSet};

use kubewright_machinery::selector::shard::{Key, ShardSelector, hash};

/// Slots in all: as many as a set of them has bits.
pub(crate) const SLOTS: u32 = 64;

/// A set of slots, one bit each; slot 0 has the smallest hashes and the lowest bit.
pub(crate) type Slots = u64;

/// The slot of an object, by the hash that the API server's shard selectors use.
pub(crate) fn slot_of(uid: &str) -> Slots {
    1 << (hash(uid) >> (64 - SLOTS.trailing_zeros()))
}

/// The shard selector of a set of slots; `None` when it is empty.
pub(crate) fn selector(slots: Slots) -> Option<ShardSelector> {
    const WIDTH: u128 = (1 << 64) / SLOTS as u128;
    let mut ranges: Vec<(u128, u128)> = Vec::new();
    for slot in (0..SLOTS).filter(|slot| slots & (1 << slot) != 0).map(u128::from) {
        let (start, end) = (slot * WIDTH, (slot + 1) * WIDTH);
        match ranges.last_mut() {
            Some((_, last)) if *last == start => *last = end,
            _ => ranges.push((start, end)),
        }
    }
    (!ranges.is_empty()).then(|| ShardSelector::new(Key::Uid, ranges))
}

/// The slots of each owner. No slot has two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table(BTreeMap<String, Slots>);

impl Table {
    /// Reads what [`text`](Self::text) wrote. What makes no sense is nobody's, and so will be given away anew.
    pub(crate) fn parse(text: &str) -> Table {
        let written: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
        let (mut table, mut taken) = (Table::default(), 0);
        for (owner, slots) in written {
            let slots = Slots::from_str_radix(&slots, 16).unwrap_or(0) & !taken;
            taken |= slots;
            table.give(&owner, slots);
        }
        table
    }

    /// The table as JSON: owners with their slots as hexadecimal numbers.
    pub(crate) fn text(&self) -> String {
        let written: BTreeMap<&str, String> =
            self.0.iter().map(|(owner, slots)| (owner.as_str(), format!("{slots:016x}"))).collect();
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// The slots of one owner.
    pub(crate) fn of(&self, owner: &str) -> Slots {
        self.0.get(owner).copied().unwrap_or(0)
    }

    /// Gives slots to an owner; nobody else has them afterwards.
    pub(crate) fn give(&mut self, owner: &str, slots: Slots) {
        self.0.values_mut().for_each(|others| *others &= !slots);
        if slots != 0 {
            *self.0.entry(owner.to_owned()).or_default() |= slots;
        }
        self.0.retain(|_, slots| *slots != 0);
    }

    /// Slots whose owner is not among the members.
    pub(crate) fn free(&self, members: &BTreeSet<String>) -> Slots {
        let owned = self.0.iter().filter(|(owner, _)| members.contains(*owner));
        !owned.fold(0, |all, (_, slots)| all | slots)
    }

    /// Who should have what: everybody evenly, with as few moves as that takes. The same for whoever asks.
    pub(crate) fn target(&self, members: &BTreeSet<String>) -> Table {
        let mut target = Table::default();
        let Some(count) = u32::try_from(members.len()).ok().filter(|count| *count > 0) else { return target };
        let share = |index: usize| SLOTS / count + u32::from((index as u32) < SLOTS % count);
        // Who has most keeps the larger share, so that a joining member moves no more than its own.
        let mut order: Vec<&String> = members.iter().collect();
        order.sort_by_key(|member| (std::cmp::Reverse(self.of(member).count_ones()), *member));
        let mut pool = Slots::MAX;
        for (index, member) in order.iter().enumerate() {
            let kept = first(self.of(member), share(index));
            pool &= !kept;
            target.give(member, kept);
        }
        for (index, member) in order.iter().enumerate() {
            let missing = share(index).saturating_sub(target.of(member).count_ones());
            let more = first(pool, missing);
            pool &= !more;
            target.give(member, more);
        }
        target
    }
}

/// The first so many slots of a set.
fn first(mut slots: Slots, count: u32) -> Slots {
    while slots.count_ones() > count {
        slots &= !(1 << (SLOTS - 1 - slots.leading_zeros()));
    }
    slots
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn slots_agree_with_the_servers_selectors() {
        for uid in ["a", "5b6ff1ea-0d4c-4f2e-8f1c-6d2a1c3b4d5e", "", "zz"] {
            let slot = slot_of(uid);
            assert!(selector(slot).unwrap().accepts(uid));
            assert!(!selector(!slot).unwrap().accepts(uid));
        }
        assert_eq!(selector(Slots::MAX).unwrap().ranges(), [(0, 1 << 64)]);
        assert_eq!(selector(0b1011).unwrap().ranges(), [(0, 2 << 58), (3 << 58, 4 << 58)]);
        assert_eq!(selector(0), None);
    }

    #[test]
    fn a_joining_member_moves_its_own_share_and_nothing_else() {
        let two = Table::default().target(&members(&["a", "b"]));
        assert_eq!((two.of("a").count_ones(), two.of("b").count_ones()), (32, 32));
        let three = two.target(&members(&["a", "b", "c"]));
        assert_eq!(three.of("c").count_ones(), 21);
        assert_eq!(three.of("a") & two.of("b"), 0);
        assert_eq!(three.of("b") & two.of("a"), 0);
        let back = three.target(&members(&["a", "b"]));
        assert_eq!(back.of("a") & three.of("a"), three.of("a"));
    }

    #[test]
    fn nonsense_is_nobodys() {
        assert_eq!(Table::parse("x"), Table::default());
        let overlap = Table::parse(r#"{"a":"3","b":"6","c":"q"}"#);
        assert_eq!((overlap.of("a"), overlap.of("b"), overlap.of("c")), (3, 4, 0));
        assert_eq!(overlap.free(&members(&["a"])), !3);
    }

    proptest! {
        #[test]
        fn shares_are_even_complete_and_stable(
            names in prop::collection::btree_set("[a-e]", 1..5),
            before in prop::collection::btree_map("[a-e]", any::<u64>(), 0..5),
        ) {
            let mut table = Table::default();
            before.iter().for_each(|(owner, slots)| table.give(owner, *slots));
            let target = table.target(&names);
            let all: u64 = names.iter().map(|name| target.of(name)).fold(0, |all, slots| all | slots);
            prop_assert_eq!(all, Slots::MAX);
            let counts: Vec<u32> = names.iter().map(|name| target.of(name).count_ones()).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            prop_assert_eq!(target.target(&names), target.clone());
            prop_assert_eq!(Table::parse(&target.text()), target);
        }
    }
}
