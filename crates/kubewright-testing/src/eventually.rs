//! Waiting for what a cluster will do, with a dump of the cluster when it does not.

use std::future::Future;
use std::time::Duration;

use crate::TestCluster;

/// How long a condition may take to hold. Long, because it is only ever waited for by tests that fail.
const PATIENCE: Duration = Duration::from_secs(30);

/// Any error a condition may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Waits until a condition holds; panics with what was waited for, the last error and a dump of the cluster after 30 s.
///
/// The condition is an expression of type `bool` evaluated again and again; it may use `.await` and `?`.
#[macro_export]
macro_rules! eventually {
    ($cluster:expr, $what:expr, $condition:expr) => {
        $crate::eventually(&$cluster, $what, async || -> ::std::result::Result<bool, $crate::BoxError> {
            ::std::result::Result::Ok($condition)
        })
        .await
    };
}

/// What [`eventually!`](crate::eventually!) calls.
///
/// # Panics
/// When the condition has not held within 30 s.
pub async fn eventually<F, Fut>(cluster: &TestCluster, what: &str, condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool, BoxError>>,
{
    within(PATIENCE, cluster, what, condition).await;
}

async fn within<F, Fut>(patience: Duration, cluster: &TestCluster, what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool, BoxError>>,
{
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let error = match condition().await {
            Ok(true) => return,
            Ok(false) => String::new(),
            Err(error) => format!("\nlast error: {error}"),
        };
        if tokio::time::Instant::now() >= deadline {
            panic!("not in {patience:?}: {what}{error}\n{}", cluster.dump().await);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::FutureExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::PostParams;

    use super::*;

    #[tokio::test]
    async fn what_is_waited_for_may_fail_and_be_false_before_it_holds() -> Result<(), BoxError> {
        let cluster = TestCluster::api_server_only().await?;
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
        let tries = AtomicU32::new(0);
        crate::eventually!(cluster, "the map is there and looked at twice", {
            if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                maps.get("m").await.map(|_| true)?
            } else if tries.load(Ordering::SeqCst) == 2 {
                let map = serde_json::from_value(serde_json::json!({"metadata": {"name": "m"}}))?;
                maps.create(&PostParams::default(), &map).await?;
                false
            } else {
                maps.get_opt("m").await?.is_some()
            }
        });
        assert_eq!(tries.load(Ordering::SeqCst), 3);
        Ok(())
    }

    #[tokio::test]
    async fn what_does_not_come_about_is_named_with_the_last_error_and_the_cluster() -> Result<(), BoxError> {
        let cluster = TestCluster::api_server_only().await?;
        let namespace = cluster.namespace("witness").await?;
        let never = within(Duration::ZERO, &cluster, "pigs fly", async || Err("no wings".into()));
        let panic = std::panic::AssertUnwindSafe(never).catch_unwind().await.unwrap_err();
        let told = panic.downcast::<String>().map_err(|_| "a panic without a message")?;
        assert!(
            told.starts_with("not in 0ns: pigs fly\nlast error: no wings\n--- the cluster ---\n"),
            "{told}"
        );
        assert!(told.contains(&format!("Namespace {}", namespace.name())), "{told}");
        Ok(())
    }
}
