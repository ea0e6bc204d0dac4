//! Who gives up room when the caches of a process together hold too much: the kind that holds most, and of it what was
//! read least recently. Whichever kind has news looks after it, so that one that is quiet does not keep all the room.

use std::cmp::Reverse;
use std::sync::Arc;

use super::cold::Codec;
use super::informer::Shared;

impl Shared {
    /// Compresses objects until the caches keep to their budget, as far as that can be had.
    pub(super) fn make_room(&self) {
        if self.budget.excess() == 0 {
            return;
        }
        let hot = |holder: &Shared| holder.store.read().hot_bytes();
        let members = self.budget.members().into_iter();
        let mut holders: Vec<(usize, Arc<Shared>)> = members.map(|holder| (hot(&holder), holder)).collect();
        holders.sort_by_key(|(hot, _)| Reverse(*hot));
        for (_, holder) in holders.iter().take_while(|(hot, _)| *hot > 0) {
            match self.budget.excess() {
                0 => return,
                excess => holder.compress(excess),
            }
        }
    }

    /// Compresses objects of about so many bytes.
    fn compress(&self, bytes: usize) {
        // Learning takes long; readers go on meanwhile.
        let examples = {
            let store = self.store.read();
            store.examples().map(|examples| (examples, store.len()))
        };
        let codec = examples.map(|(examples, len)| Codec::learn(&examples, len));
        let mut store = self.store.write();
        match codec {
            Some(Ok(codec)) => store.compress_with(codec),
            Some(Err(error)) => tracing::warn!(kind = %self.kind, %error, "objects can't be compressed"),
            None => {}
        }
        let hot = store.hot_bytes();
        store.freeze(bytes);
        self.budget.changed(hot, store.hot_bytes());
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};

    use super::*;
    use crate::cache::memory::Budget;
    use crate::cache::object::Cached;
    use crate::cache::part::Part;
    use crate::cache::watch::Effect;
    use crate::cache::{Memory, Scope, Select};
    use crate::kind::{Kind, Object};

    fn shared<K: Object>(budget: &Arc<Budget>) -> (Arc<Shared>, Arc<Part>) {
        let kind = Kind::of::<K>();
        let shared = Shared::new(kind, Scope::All, Arc::new(Select::all()), None, Arc::clone(budget));
        let shared = Arc::new(shared);
        budget.join(&shared);
        let part = shared.join(None);
        (shared, part)
    }

    fn put(to: &(Arc<Shared>, Arc<Part>), names: std::ops::Range<u32>) {
        let objects = names.map(|name| {
            let text = format!(
                r#"{{"metadata":{{"name":"o{name}","uid":"{name}","resourceVersion":"{name}"}},"data":{{"k":"{}"}}}}"#,
                "v".repeat(1000)
            );
            let object = Cached::read(text.as_bytes(), &to.0.kind).unwrap();
            (Effect::Put { initial: false }, Some(object))
        });
        to.0.apply(&to.1, objects.collect());
    }

    #[test]
    fn a_quiet_kind_gives_up_room_for_a_busy_one() {
        let budget = Arc::new(Budget::new(Memory { raw: Some(150_000), decoded: 0 }));
        let (quiet, busy) = (shared::<Secret>(&budget), shared::<ConfigMap>(&budget));
        put(&quiet, 1..101);
        put(&busy, 1..41);
        assert_eq!((quiet.0.store.read().hot_bytes() > 100_000, budget.excess()), (true, 0));
        put(&busy, 41..81);
        assert_eq!(budget.excess(), 0);
        let hot = |of: &(Arc<Shared>, Arc<Part>)| (of.0.store.read().hot_bytes(), of.0.store.read().bytes());
        let ((quiet_hot, quiet_all), (busy_hot, busy_all)) = (hot(&quiet), hot(&busy));
        assert!(
            quiet_hot < quiet_all && busy_hot == busy_all,
            "{quiet_hot} {quiet_all} {busy_hot} {busy_all}"
        );
    }
}
