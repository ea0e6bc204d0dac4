//! Whether a write fits into the quotas of its namespace, and what their usage would be after it. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use kubewright_machinery::meta;
use serde_json::Value;

use super::meter::Meter;
use super::scopes;
use crate::admission::amounts::{Amounts, add, growth, listed, read};
use crate::fields::at;

/// A write, as quotas see it.
pub(super) struct Charged<'a> {
    pub(super) meter: &'a Meter,
    pub(super) object: &'a Value,
    /// `None` on create.
    pub(super) old: Option<&'a Value>,
    /// The write only tells how things are: it is charged and never refused.
    pub(super) reports: bool,
    pub(super) now: Timestamp,
}

/// New usage of one quota.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) quota: Arc<Value>,
    pub(super) used: Amounts,
}

/// The quotas whose usage changes, or the reason of the refusal.
pub(super) fn check(quotas: &[Arc<Value>], write: &Charged<'_>) -> Result<Vec<Charge>, String> {
    let meter = write.meter;
    let mut touched = Vec::new();
    for quota in quotas {
        let hard = read(at(quota, &["status", "hard"]));
        let limited: Vec<&str> = hard.keys().map(|n| &**n).filter(|n| meter.counts(n)).collect();
        if limited.is_empty() || !is_about(quota, meter, write.object) {
            continue;
        }
        let name = meta::name(quota);
        if let Some(why) = meter.unspecified(&limited, write.object) {
            return Err(format!("failed quota: {name}: {why}"));
        }
        let used = read(at(quota, &["status", "used"]));
        if limited.iter().any(|n| !used.contains_key(*n)) {
            return Err(format!("status unknown for quota: {name}, resources: {}", limited.join(",")));
        }
        touched.push((quota, hard, used));
    }
    if touched.is_empty() {
        return Ok(Vec::new());
    }
    let usage = meter.usage(write.object, write.now);
    let negative: Vec<&str> = usage.iter().filter(|(_, q)| q.signum() < 0).map(|(n, _)| &**n).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let before = write.old.map(|old| meter.usage(old, write.now));
    let mut charges = Vec::new();
    for (quota, hard, used) in touched {
        let mut more = match (&before, write.old) {
            // What the object took already is in the quota if it was in its scope.
            (Some(before), Some(old)) if is_about(quota, meter, old) => growth(&usage, before),
            _ => usage.clone(),
        };
        more.retain(|name, quantity| !quantity.is_zero() && hard.contains_key(name));
        if more.is_empty() {
            continue;
        }
        let mut after = used.clone();
        add(&mut after, &more);
        if !write.reports {
            let exceeded = |name: &str| more.contains_key(name) && after.get(name) > hard.get(name);
            let only = |amounts: &Amounts| -> Amounts {
                amounts.iter().filter(|(n, _)| exceeded(n)).map(|(n, q)| (n.clone(), q.clone())).collect()
            };
            let requested = only(&more);
            if !requested.is_empty() {
                return Err(format!(
                    "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                    meta::name(quota),
                    listed(&requested),
                    listed(&only(&used)),
                    listed(&only(&hard))
                ));
            }
        }
        charges.push(Charge { quota: Arc::clone(quota), used: after });
    }
    Ok(charges)
}

/// Whether an object is in all scopes of a quota.
fn is_about(quota: &Value, meter: &Meter, object: &Value) -> bool {
    scopes::of(quota).iter().all(|scope| meter.in_scope(scope, object))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quota(name: &str, status: Value) -> Arc<Value> {
        Arc::new(json!({"metadata": {"name": name}, "spec": {"hard": status["hard"]}, "status": status}))
    }

    fn pod(cpu: &str) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    fn on(quotas: &[Arc<Value>], object: &Value, old: Option<&Value>) -> Result<Vec<String>, String> {
        let write = Charged { meter: &Meter::Pods, object, old, reports: false, now: Timestamp::UNIX_EPOCH };
        let named = |c: &Charge| format!("{}: {}", meta::name(&c.quota), listed(&c.used));
        Ok(check(quotas, &write)?.iter().map(named).collect())
    }

    #[test]
    fn what_fits_is_charged_to_every_quota_it_touches() {
        let quotas = [
            quota("a", json!({"hard": {"pods": "2"}, "used": {"pods": "1"}})),
            quota("b", json!({"hard": {"requests.cpu": "1", "secrets": "1"}, "used": {"requests.cpu": "0"}})),
            quota("c", json!({"hard": {"secrets": "0"}})),
            quota("new", json!({})),
        ];
        assert_eq!(on(&quotas, &pod("400m"), None).unwrap(), ["a: pods=2", "b: requests.cpu=400m"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_all_that_is_exceeded() {
        let quotas = [quota(
            "q",
            json!({"hard": {"cpu": "1", "pods": "9", "requests.cpu": "1500m"},
            "used": {"cpu": "500m", "pods": "0", "requests.cpu": "500m"}}),
        )];
        assert_eq!(
            on(&quotas, &pod("2"), None).unwrap_err(),
            "exceeded quota: q, requested: cpu=2,requests.cpu=2, used: cpu=500m,requests.cpu=500m, limited: \
             cpu=1,requests.cpu=1500m"
        );
    }

    #[test]
    fn a_quota_without_usage_refuses_what_it_limits() {
        let quotas = [quota("q", json!({"hard": {"pods": "2", "requests.cpu": "1"}, "used": {"pods": "0"}}))];
        assert_eq!(
            on(&quotas, &pod("1"), None).unwrap_err(),
            "status unknown for quota: q, resources: pods,requests.cpu"
        );
    }

    #[test]
    fn a_change_is_charged_for_what_it_adds() {
        let quotas =
            [quota("q", json!({"hard": {"pods": "1", "cpu": "3"}, "used": {"pods": "1", "cpu": "1"}}))];
        assert_eq!(on(&quotas, &pod("2500m"), Some(&pod("1"))).unwrap(), ["q: cpu=2500m,pods=1"]);
        assert_eq!(on(&quotas, &pod("1"), Some(&pod("2"))).unwrap(), Vec::<String>::new());
        assert!(
            on(&quotas, &pod("4"), Some(&pod("1"))).unwrap_err().contains("requested: cpu=3, used: cpu=1")
        );
    }
}
