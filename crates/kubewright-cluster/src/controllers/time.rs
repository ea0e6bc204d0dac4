//! The time as controllers see it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Now, in whole seconds, as `metav1.Time` is written.
pub(crate) fn now() -> Time {
    let now = k8s_openapi::jiff::Timestamp::now();
    Time(k8s_openapi::jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}
