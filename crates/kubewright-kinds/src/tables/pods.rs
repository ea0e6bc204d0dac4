//! The table of pods: one word for all that the states of the containers say.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{age, name, or, since};
use crate::fields::{at, flag, int, items, text};

/// The row conditions of finished pods: clients may show them greyed out.
pub(super) fn conditions(pod: &Value) -> Vec<Value> {
    let completed = |reason: &str, message: &str| {
        vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
    };
    match text(pod, &["status", "phase"]) {
        "Succeeded" => completed("Succeeded", "The pod has completed successfully."),
        "Failed" => completed("Failed", "The pod failed."),
        _ => Vec::new(),
    }
}

/// Restarts and when the last one was.
#[derive(Clone, Default)]
struct Restarts {
    count: i64,
    last: Option<String>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += int(container, &["restartCount"]).unwrap_or_default();
        if let Value::String(time) = at(container, &["lastState", "terminated", "finishedAt"])
            && self.last.as_ref().is_none_or(|last| last < time)
        {
            self.last = Some(time.clone());
        }
    }

    fn cell(&self, now: Timestamp) -> String {
        match &self.last {
            Some(last) if self.count != 0 => {
                format!("{} ({} ago)", self.count, since(&Value::from(last.as_str()), now))
            }
            _ => self.count.to_string(),
        }
    }
}

/// How a container ended, in one word.
fn ended(terminated: &Value) -> String {
    let reason = text(terminated, &["reason"]);
    if !reason.is_empty() {
        return reason.to_string();
    }
    match int(terminated, &["signal"]).unwrap_or_default() {
        0 => format!("ExitCode:{}", int(terminated, &["exitCode"]).unwrap_or_default()),
        signal => format!("Signal:{signal}"),
    }
}

struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: Restarts,
}

fn summary(pod: &Value) -> Summary {
    let phase = text(pod, &["status", "phase"]);
    let mut reason = or(text(pod, &["status", "reason"]), phase).to_string();
    let conditions = items(pod, &["status", "conditions"]);
    if conditions.iter().any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated") {
        reason = "SchedulingGated".into();
    }
    let is_true = |kind: &str| conditions.iter().any(|c| c["type"] == kind && c["status"] == "True");

    let init = items(pod, &["spec", "initContainers"]);
    let sidecars: HashMap<&str, bool> =
        init.iter().map(|c| (text(c, &["name"]), text(c, &["restartPolicy"]) == "Always")).collect();
    let is_sidecar = |status: &Value| sidecars.get(text(status, &["name"])).copied().unwrap_or_default();
    let total = items(pod, &["spec", "containers"]).len() + sidecars.values().filter(|s| **s).count();

    let mut ready = 0;
    let mut initializing = false;
    let (mut restarts, mut sidecar_restarts) = (Restarts::default(), Restarts::default());
    for (i, status) in items(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        restarts.add(status);
        let sidecar = is_sidecar(status);
        if sidecar {
            sidecar_restarts.add(status);
        }
        let terminated = at(status, &["state", "terminated"]);
        let waiting = text(status, &["state", "waiting", "reason"]);
        if !terminated.is_null() && int(terminated, &["exitCode"]).unwrap_or_default() == 0 {
            continue;
        }
        if sidecar && flag(status, &["started"]) {
            ready += usize::from(flag(status, &["ready"]));
            continue;
        }
        reason = if !terminated.is_null() {
            format!("Init:{}", ended(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", init.len())
        };
        initializing = true;
        break;
    }

    if !initializing || is_true("Initialized") {
        restarts = sidecar_restarts;
        let mut running = false;
        for status in items(pod, &["status", "containerStatuses"]).iter().rev() {
            restarts.add(status);
            let waiting = text(status, &["state", "waiting", "reason"]);
            let terminated = at(status, &["state", "terminated"]);
            if !waiting.is_empty() {
                reason = waiting.to_string();
            } else if !terminated.is_null() {
                reason = ended(terminated);
            } else if flag(status, &["ready"]) && !at(status, &["state", "running"]).is_null() {
                running = true;
                ready += 1;
            }
        }
        // One container still runs: the pod is not over.
        if reason == "Completed" && running {
            reason = if is_true("Ready") { "Running" } else { "NotReady" }.into();
        }
    }

    if !at(pod, &["metadata", "deletionTimestamp"]).is_null() {
        if text(pod, &["status", "reason"]) == "NodeLost" {
            reason = "Unknown".into();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            reason = "Terminating".into();
        }
    }
    Summary { reason, ready, total, restarts }
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let Summary { reason, ready, total, restarts } = summary(pod);
    let ip = items(pod, &["status", "podIPs"]).first().map_or("", |ip| text(ip, &["ip"]));
    let ip = or(ip, text(pod, &["status", "podIP"]));
    let gates = items(pod, &["spec", "readinessGates"]);
    let gates_cell = if gates.is_empty() {
        "<none>".to_string()
    } else {
        let conditions = items(pod, &["status", "conditions"]);
        let met = |gate: &&Value| {
            let condition = conditions.iter().find(|c| c["type"] == gate["conditionType"]);
            condition.is_some_and(|c| c["status"] == "True")
        };
        format!("{}/{}", gates.iter().filter(met).count(), gates.len())
    };
    vec![
        name(pod),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.cell(now).into(),
        age(pod, now),
        or(ip, "<none>").into(),
        or(text(pod, &["spec", "nodeName"]), "<none>").into(),
        or(text(pod, &["status", "nominatedNodeName"]), "<none>").into(),
        gates_cell.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_with_one_finished_container_still_runs() {
        let pod = json!({"spec": {"containers": [{}, {}]}, "status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"ready": false, "state": {"terminated": {"reason": "Completed", "exitCode": 0}}},
            {"ready": true, "state": {"running": {}}},
        ]}});
        let summary = summary(&pod);
        assert_eq!((summary.reason.as_str(), summary.ready, summary.total), ("Running", 1, 2));
    }

    #[test]
    fn a_deleted_pod_terminates_unless_it_is_over() {
        let mut pod = json!({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}});
        assert_eq!(summary(&pod).reason, "Terminating");
        pod["status"]["phase"] = "Failed".into();
        assert_eq!(summary(&pod).reason, "Failed");
    }
}
