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
pub async fn eventually<F, Fut>(cluster: &TestCluster, what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool, BoxError>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let error = match condition().await {
            Ok(true) => return,
            Ok(false) => String::new(),
            Err(error) => format!("\nlast error: {error}"),
        };
        if tokio::time::Instant::now() >= deadline {
            panic!("not in {PATIENCE:?}: {what}{error}\n{}", cluster.dump().await);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
