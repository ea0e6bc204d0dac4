//! The memory engine against a model too simple to be wrong: every state of the past kept whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use kubewright_storage::{EventKind, Expect, MemoryStore, Range, Retention, Store, StoreError, Watch};
use proptest::prelude::*;

type State = BTreeMap<String, (Vec<u8>, u64, u64)>;

/// `states[r]` is the state right after revision `r`; revision 1 is the empty store.
#[derive(Debug)]
struct Model {
    states: Vec<State>,
    changes: Vec<(u64, String, EventKind)>,
    compacted: u64,
}

#[derive(Clone, Debug)]
enum Guess {
    Any,
    Absent,
    Right,
    Wrong,
}

#[derive(Clone, Debug)]
enum Op {
    Put(String, u8, Guess),
    Delete(String, Guess),
    Get(String, u64),
    Page { prefix: String, after: Option<String>, limit: usize, back: Option<u64> },
    Watch(String, u64),
    Compact(u64),
    Drain,
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec!["/p/a", "/p/b", "/p/b/c", "/p/bc", "/q/a", "/p", "x"])
            .prop_map(String::from)
    ]
}

fn prefix() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["", "/", "/p/", "/p/b", "/p/b/", "/q/", "/none/"]).prop_map(String::from)
}

fn guess() -> impl Strategy<Value = Guess> {
    prop_oneof![3 => Just(Guess::Any), 2 => Just(Guess::Absent), 3 => Just(Guess::Right), 1 => Just(Guess::Wrong)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (key(), any::<u8>(), guess()).prop_map(|(key, value, guess)| Op::Put(key, value, guess)),
        4 => (key(), guess()).prop_map(|(key, guess)| Op::Delete(key, guess)),
        3 => (key(), 0..12_u64).prop_map(|(key, back)| Op::Get(key, back)),
        3 => (prefix(), proptest::option::of(key()), 0..4_usize, proptest::option::of(0..12_u64))
            .prop_map(|(prefix, after, limit, back)| Op::Page { prefix, after, limit, back }),
        2 => (prefix(), 0..12_u64).prop_map(|(prefix, back)| Op::Watch(prefix, back)),
        1 => (0..12_u64).prop_map(Op::Compact),
        1 => Just(Op::Drain),
    ]
}

impl Model {
    fn newest(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn state(&self) -> &State {
        self.states.last().expect("there is always a state")
    }

    fn expect(&self, key: &str, guess: &Guess) -> Expect {
        let current = self.state().get(key).map(|(_, _, revision)| *revision);
        match guess {
            Guess::Any => Expect::Any,
            Guess::Absent => Expect::Absent,
            Guess::Right => current.map_or(Expect::Absent, Expect::Revision),
            Guess::Wrong => Expect::Revision(current.unwrap_or(0) + 1),
        }
    }

    fn holds(&self, key: &str, expect: Expect) -> bool {
        match (expect, self.state().get(key)) {
            (Expect::Any, _) | (Expect::Absent, None) => true,
            (Expect::Revision(expected), Some((_, _, revision))) => *revision == expected,
            _ => false,
        }
    }

    fn put(&mut self, key: &str, value: u8) -> u64 {
        let revision = self.newest() + 1;
        let mut state = self.state().clone();
        let created = state.get(key).map(|(_, created, _)| *created);
        state.insert(key.into(), (vec![value], created.unwrap_or(revision), revision));
        self.states.push(state);
        self.changes.push((revision, key.into(), EventKind::Put { created: created.is_none() }));
        revision
    }

    fn delete(&mut self, key: &str) -> u64 {
        let revision = self.newest() + 1;
        let mut state = self.state().clone();
        state.remove(key);
        self.states.push(state);
        self.changes.push((revision, key.into(), EventKind::Delete));
        revision
    }
}

struct Watching {
    watch: Watch,
    prefix: String,
    after: u64,
}

/// Takes everything a watch has and compares it with what happened. Gives back whether the watch goes on.
fn drain(watching: &mut Watching, model: &Model) -> bool {
    let pending: Vec<_> = model
        .changes
        .iter()
        .filter(|(revision, key, _)| *revision > watching.after && key.starts_with(&watching.prefix))
        .collect();
    let lost = pending.iter().any(|(revision, _, _)| *revision <= model.compacted);
    if lost {
        assert!(matches!(watching.watch.try_next(), Some(Err(StoreError::Compacted { .. }))));
        assert!(watching.watch.try_next().is_none());
        return false;
    }
    for (revision, key, kind) in pending {
        assert_eq!(watching.watch.revision(), revision - 1);
        let event = watching.watch.try_next().expect("an event is due").expect("not an error");
        assert_eq!((event.revision, &*event.key, event.kind), (*revision, key.as_str(), *kind));
        let before = model.states[*revision as usize - 1].get(key);
        let written = model.states[*revision as usize].get(key).or(before).expect("the key existed");
        assert_eq!(event.value, written.0);
        assert_eq!(event.previous.as_deref(), before.map(|(value, _, _)| value.as_slice()));
        assert_eq!(event.previous_revision, before.map(|(_, _, revision)| *revision));
    }
    assert!(watching.watch.try_next().is_none());
    watching.after = model.newest();
    assert_eq!(watching.watch.revision(), model.newest());
    true
}

fn check(error: &StoreError, model: &Model, at: u64) {
    match error {
        StoreError::Compacted { revision } => assert!(*revision == model.compacted && at < model.compacted),
        other => panic!("at {at}: {other}"),
    }
}

async fn play(ops: Vec<Op>) {
    let store = MemoryStore::new(Retention { revisions: usize::MAX, bytes: usize::MAX });
    let mut model = Model { states: vec![State::new(), State::new()], changes: Vec::new(), compacted: 1 };
    let mut watches: Vec<Watching> = Vec::new();
    for op in ops {
        match op {
            Op::Put(key, value, guess) => {
                let expect = model.expect(&key, &guess);
                let held = model.holds(&key, expect);
                match store.put(&key, Bytes::from(vec![value]), expect).await {
                    Ok(revision) => {
                        assert!(held);
                        assert_eq!(revision, model.put(&key, value));
                    }
                    Err(StoreError::Conflict { current }) => {
                        assert!(!held);
                        let there = model.state().get(&key).map(|(_, _, revision)| *revision);
                        assert_eq!(current.map(|entry| entry.revision), there);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            Op::Delete(key, guess) => {
                let expect = model.expect(&key, &guess);
                let exists = model.state().contains_key(&key);
                match store.delete(&key, expect).await {
                    Ok(entry) => {
                        assert!(exists && model.holds(&key, expect));
                        let (value, created, _) = model.state()[&key].clone();
                        assert_eq!((entry.value.to_vec(), entry.created), (value, created));
                        assert_eq!(entry.revision, model.delete(&key));
                    }
                    Err(StoreError::NotFound) => assert!(!exists),
                    Err(StoreError::Conflict { .. }) => assert!(exists && !model.holds(&key, expect)),
                    Err(other) => panic!("{other}"),
                }
            }
            Op::Get(key, back) => {
                let at = model.newest().saturating_sub(back);
                match store.get(&key, Some(at)).await {
                    Ok(found) => {
                        assert!(at >= model.compacted);
                        let found = found.map(|entry| (entry.value.to_vec(), entry.created, entry.revision));
                        assert_eq!(found.as_ref(), model.states[at as usize].get(&key));
                    }
                    Err(error) => check(&error, &model, at),
                }
            }
            Op::Page { prefix, after, limit, back } => {
                let at = model.newest().saturating_sub(back.unwrap_or(0));
                let counted = store.count(&prefix, back.map(|_| at)).await;
                let range = Range { prefix: prefix.clone(), after: after.clone(), limit };
                match store.range(range, back.map(|_| at)).await {
                    Ok(page) => {
                        let all: Vec<_> = model.states[at as usize]
                            .iter()
                            .filter(|(key, _)| key.starts_with(&prefix))
                            .map(|(key, (value, created, revision))| {
                                (key.clone(), value.clone(), *created, *revision)
                            })
                            .collect();
                        assert_eq!(counted.expect("a count"), all.len() as u64);
                        let rest: Vec<_> = all
                            .into_iter()
                            .filter(|row| after.as_ref().is_none_or(|after| row.0 > *after))
                            .collect();
                        let shown = if limit == 0 { rest.len() } else { limit.min(rest.len()) };
                        let entries: Vec<_> = page
                            .entries
                            .iter()
                            .map(|entry| {
                                (entry.key.to_string(), entry.value.to_vec(), entry.created, entry.revision)
                            })
                            .collect();
                        assert_eq!(entries, rest[..shown]);
                        assert_eq!(page.remaining, (rest.len() - shown) as u64);
                        assert_eq!((page.more, page.revision), (page.remaining > 0, at));
                    }
                    Err(error) => check(&error, &model, at),
                }
            }
            Op::Watch(prefix, back) => {
                let after = model.newest().saturating_sub(back);
                match store.watch(&prefix, after) {
                    Ok(watch) => {
                        assert!(after >= model.compacted);
                        watches.push(Watching { watch, prefix, after });
                    }
                    Err(error) => check(&error, &model, after),
                }
            }
            Op::Compact(back) => {
                let revision = model.newest().saturating_sub(back);
                match store.compact(revision).await {
                    Ok(()) => {
                        assert!(revision > model.compacted);
                        model.compacted = revision;
                    }
                    Err(StoreError::Compacted { .. }) => assert!(revision <= model.compacted),
                    Err(other) => panic!("{other}"),
                }
            }
            Op::Drain => watches.retain_mut(|watching| drain(watching, &model)),
        }
        assert_eq!(store.revision().await.expect("the newest revision"), model.newest());
    }
    watches.retain_mut(|watching| drain(watching, &model));
    // After everything is compacted exactly the living keys remain, one version each.
    if model.newest() > model.compacted {
        store.compact(model.newest()).await.expect("a compaction");
    }
    let (size, living) = (store.size(), model.state().len());
    assert_eq!((size.keys, size.versions, size.events), (living, living, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_memory_engine_does_what_the_model_does(ops in proptest::collection::vec(op(), 0..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(play(ops));
    }
}
