//! The suite every engine runs: what [`Store`] promises, each promise a named test.
//!
//! An empty engine comes in for each test; a failed promise is a panic that names it. Nothing here looks below the
//! trait or sleeps, and numbers are relative to the engine's first revision, so that an engine on a real etcd can run
//! it as well. An engine's own tests call [`run`] from one test function, on a runtime with time enabled.

mod compaction;
mod concurrency;
mod reads;
mod watches;
mod writes;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{Entry, Event, Expect, Store, StoreError, Watch};

/// A test that takes longer is stuck: nothing here waits for time to pass.
const STUCK: Duration = Duration::from_secs(120);

macro_rules! suite {
    ($($module:ident { $($name:ident),* $(,)? })*) => {
        /// The names of the tests, in the order they run.
        pub const NAMES: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($name)),)*)*];

        /// Runs every test on an engine of its own, which `make` gives empty. Panics at the first broken promise.
        pub async fn run<S: Store, F: Future<Output = S>>(make: impl Fn() -> F) {
            $($(
                let name = concat!(stringify!($module), "::", stringify!($name));
                println!("conformance {name}");
                let store: Arc<dyn Store> = Arc::new(make().await);
                if tokio::time::timeout(STUCK, $module::$name(store)).await.is_err() {
                    panic!("{name} is stuck: a promised event or answer never came");
                }
            )*)*
        }
    };
}

suite! {
    writes {
        a_put_takes_the_next_revision,
        a_put_keeps_the_revision_of_creation,
        a_refused_write_changes_nothing_and_takes_no_revision,
        a_put_of_an_absent_key_refuses_an_existing_one,
        a_put_at_a_revision_needs_exactly_that_revision,
        a_put_at_a_revision_refuses_a_missing_key,
        a_delete_gives_the_last_value_at_its_own_revision,
        a_delete_of_a_missing_key_is_not_found,
        a_delete_at_a_revision_needs_exactly_that_revision,
        a_key_created_again_begins_a_new_life,
        keys_that_start_alike_are_different_keys,
        values_come_back_byte_for_byte,
    }
    reads {
        an_empty_store_has_a_revision_above_zero,
        a_get_sees_the_newest_write,
        a_get_at_a_revision_sees_the_state_of_then,
        a_read_of_the_future_is_refused,
        a_range_is_in_byte_order_and_under_the_prefix_only,
        a_range_at_a_revision_sees_the_state_of_then,
        pages_of_one_revision_do_not_see_later_writes,
        a_page_says_how_many_keys_follow,
        a_page_starts_after_a_key_that_no_longer_exists,
        a_start_before_the_prefix_does_not_widen_the_range,
        a_count_is_of_the_keys_that_exist,
        waiting_ends_when_the_revision_is_reached,
    }
    watches {
        a_watch_gives_changes_strictly_after_its_revision,
        a_watch_gives_only_its_prefix,
        a_watch_of_one_prefix_is_not_disturbed_by_a_longer_or_shorter_one,
        a_watch_from_the_past_catches_up_and_goes_on,
        a_later_watch_may_start_earlier,
        a_watch_may_start_in_the_future,
        events_carry_the_value_before,
        a_deletion_carries_the_last_value_and_its_own_revision,
        refused_writes_are_not_events,
        watchers_share_one_event,
        an_idle_watch_is_complete_up_to_the_newest_revision,
        a_watch_with_something_pending_is_complete_only_before_it,
        a_waiting_watch_wakes_up,
        a_dropped_wait_loses_nothing,
        a_watch_ends_where_another_goes_on,
    }
    compaction {
        states_before_a_compaction_are_gone_and_later_ones_stay,
        a_compacted_revision_itself_stays_readable,
        a_compaction_keeps_every_current_value,
        a_compaction_drops_deleted_keys_for_good,
        compacting_twice_is_refused,
        compacting_the_future_is_refused,
        a_watch_from_before_a_compaction_is_refused,
        a_watch_from_the_compacted_revision_misses_nothing,
        a_watch_that_has_seen_everything_survives_a_compaction,
        a_watch_that_fell_behind_ends_with_compacted,
        later_pages_of_a_compacted_revision_are_refused,
    }
    concurrency {
        concurrent_creations_have_one_winner,
        concurrent_compare_and_swaps_lose_no_update,
        every_watcher_sees_every_change_once_and_in_order,
        a_list_and_a_watch_from_it_miss_nothing_between_them,
        a_list_during_writes_shows_one_revision,
        a_write_is_seen_by_reads_that_start_after_it,
    }
}

type Shared = Arc<dyn Store>;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn newest(store: &Shared) -> u64 {
    store.revision().await.expect("the newest revision")
}

async fn put(store: &Shared, key: &str, value: &str) -> u64 {
    store.put(key, bytes(value), Expect::Any).await.expect("an unconditional put")
}

async fn delete(store: &Shared, key: &str) -> Entry {
    store.delete(key, Expect::Any).await.expect("a delete of an existing key")
}

async fn get(store: &Shared, key: &str, at: Option<u64>) -> Option<(String, u64)> {
    let entry = store.get(key, at).await.expect("a get")?;
    Some((text(&entry.value), entry.revision))
}

fn watch(store: &Shared, prefix: &str, after: u64) -> Watch {
    store.watch(prefix, after).expect("a watch")
}

async fn next(watch: &mut Watch) -> Arc<Event> {
    watch.next().await.expect("the watch goes on").expect("an event")
}

fn text(value: &Bytes) -> String {
    String::from_utf8(value.to_vec()).expect("tests put text")
}

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.key).collect()
}

fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Option<Entry> {
    match result {
        Err(StoreError::Conflict { current }) => current,
        other => panic!("expected a conflict, got {other:?}"),
    }
}

fn compacted<T: std::fmt::Debug>(result: Result<T, StoreError>) -> u64 {
    match result {
        Err(StoreError::Compacted { revision }) => revision,
        other => panic!("expected a compacted revision, got {other:?}"),
    }
}

fn future<T: std::fmt::Debug>(result: Result<T, StoreError>) -> u64 {
    match result {
        Err(StoreError::Future { current }) => current,
        other => panic!("expected a future revision, got {other:?}"),
    }
}
