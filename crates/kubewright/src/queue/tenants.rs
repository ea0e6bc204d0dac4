//! Whose an item is, where turns are shared among tenants.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::controller::panic_message;
use crate::kind::Key;

/// Among whom the turns of a queue are shared: each key belongs to a tenant, and among ready keys of one priority the
/// turns go round the tenants. One with ten thousand keys delays another's by no more than one turn.
///
/// ```
/// use kubewright::queue::Tenants;
///
/// let by_namespace = Tenants::namespaces();
/// // By what stands before the first dash of a namespace: `shop-web`, `shop-db` are one tenant.
/// let by_team = Tenants::by(|key: &kubewright::Key| {
///     key.namespace().and_then(|namespace| namespace.split('-').next()).unwrap_or_default().to_owned()
/// });
/// ```
pub struct Tenants<K>(Arc<Of<K>>);

type Of<K> = dyn Fn(&K) -> Arc<str> + Send + Sync;

impl<K: fmt::Debug> Tenants<K> {
    /// What a function says of a key. It is asked when a key enters the queue, must be quick, as events wait for it, and
    /// must not queue anything itself. Keys at which it panics share a tenant.
    pub fn by<T: Into<Arc<str>>>(tenant: impl Fn(&K) -> T + Send + Sync + 'static) -> Tenants<K> {
        Tenants(Arc::new(move |key| tenant(key).into()))
    }

    pub(super) fn of(&self, key: &K) -> Arc<str> {
        catch_unwind(AssertUnwindSafe(|| (self.0)(key))).unwrap_or_else(|panic| {
            tracing::error!(object = ?key, message = panic_message(&*panic), "the tenant of an object is unknown");
            "".into()
        })
    }
}

impl Tenants<Key> {
    /// Every namespace is a tenant; objects of the cluster share one.
    pub fn namespaces() -> Tenants<Key> {
        Tenants::by(|key: &Key| Arc::<str>::from(key.namespace().unwrap_or_default()))
    }
}

impl<K> Clone for Tenants<K> {
    fn clone(&self) -> Self {
        Tenants(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for Tenants<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tenants")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_panics_leaves_its_keys_one_tenant() {
        let tenants = Tenants::by(|key: &u8| {
            assert!(*key < 2, "a bug");
            key.to_string()
        });
        assert_eq!([1, 2, 3].map(|key| tenants.of(&key).to_string()), ["1", "", ""]);
        assert_eq!(&*Tenants::namespaces().of(&Key::new("team", "web")), "team");
    }
}
