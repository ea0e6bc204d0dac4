//! Which objects are gone, and whose they were: what replicas that share objects have to know of a key that has no object
//! any more. Whoever owned the object is told of its end, and nobody else.

use std::collections::HashMap;

use crate::kind::Key;

/// Ends that were told are remembered for twice as many others: what comes late of an object that is gone concerns the same
/// replica as its end did.
const TOLD: usize = 8192;

/// Objects that are gone, by key, each with its uid.
#[derive(Default)]
pub(super) struct Gone {
    /// In the queue for it. As many as the queue has keys, at most.
    untold: HashMap<Key, Box<str>>,
    /// Told lately, and before that.
    told: [HashMap<Key, Box<str>>; 2],
}

impl Gone {
    /// An object is gone, and the queue is about to be told.
    pub(super) fn add(&mut self, key: Key, uid: &str) {
        self.told.iter_mut().for_each(|told| drop(told.remove(&key)));
        self.untold.insert(key, uid.into());
    }

    /// There is an object under the key again.
    pub(super) fn remove(&mut self, key: &Key) {
        self.untold.remove(key);
        self.told.iter_mut().for_each(|told| drop(told.remove(key)));
    }

    /// The uid of what is gone and was not told yet.
    pub(super) fn untold(&self, key: &Key) -> Option<&str> {
        self.untold.get(key).map(|uid| &**uid)
    }

    /// The uid of what is gone, as far as that is remembered.
    pub(super) fn uid(&self, key: &Key) -> Option<&str> {
        self.untold(key).or_else(|| self.told.iter().find_map(|told| told.get(key)).map(|uid| &**uid))
    }

    /// Whoever is concerned was told of this end; another of the same key may have come meanwhile.
    pub(super) fn tell(&mut self, key: &Key, uid: &str) {
        if self.untold(key) != Some(uid) {
            return;
        }
        if let Some((key, uid)) = self.untold.remove_entry(key) {
            if self.told[0].len() >= TOLD {
                self.told[1] = std::mem::take(&mut self.told[0]);
            }
            self.told[0].insert(key, uid);
        }
    }

    /// Forgets all other keys than these.
    pub(super) fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.untold.retain(|key, _| keep(key));
        self.told.iter_mut().for_each(|told| told.retain(|key, _| keep(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_once_and_remembered_until_many_others_were_told() {
        let mut gone = Gone::default();
        gone.add("a".into(), "u1");
        assert_eq!((gone.untold(&"a".into()), gone.uid(&"a".into())), (Some("u1"), Some("u1")));
        gone.tell(&"a".into(), "u1");
        assert_eq!((gone.untold(&"a".into()), gone.uid(&"a".into())), (None, Some("u1")));
        for number in 0..2 * TOLD {
            let key = Key::new("n", &number.to_string());
            gone.add(key.clone(), "u");
            gone.tell(&key, "u");
        }
        assert_eq!(gone.uid(&"a".into()), None);
        assert!(gone.untold.is_empty() && gone.told.iter().all(|told| told.len() <= TOLD));
    }

    #[test]
    fn what_ends_again_while_its_end_is_told_is_told_again() {
        let mut gone = Gone::default();
        gone.add("a".into(), "u1");
        gone.add("a".into(), "u2");
        gone.tell(&"a".into(), "u1");
        assert_eq!(gone.untold(&"a".into()), Some("u2"));
    }

    #[test]
    fn what_is_there_again_or_followed_no_more_is_not_gone() {
        let mut gone = Gone::default();
        ["a", "b"].into_iter().for_each(|name| gone.add(name.into(), "u"));
        gone.tell(&"b".into(), "u");
        gone.remove(&"a".into());
        gone.retain(|key| key.name() != "b");
        assert!([gone.uid(&"a".into()), gone.uid(&"b".into())] == [None, None]);
    }
}
