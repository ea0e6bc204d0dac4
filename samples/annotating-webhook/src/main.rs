//! A mutating webhook: pods are annotated with who created them, whatever they claim themselves.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kubewright::webhook::{Admission, Mutator, Operation, Verdict, Webhook};
use kubewright::{Operator, Result};

const CREATED_BY: &str = "annotating-webhook.example.com/created-by";

struct CreatedBy;

impl Mutator for CreatedBy {
    type Object = Pod;

    async fn mutate(&self, pod: &mut Pod, cx: &Admission) -> Result<Verdict> {
        let user = cx.user().username.clone();
        let claimed = pod.annotations_mut().insert(CREATED_BY.into(), user.clone());
        Ok(match claimed.filter(|claimed| *claimed != user) {
            Some(claimed) => Verdict::allow().warn(format!("{CREATED_BY}: {claimed} is replaced by {user}")),
            None => Verdict::allow(),
        })
    }
}

fn operator() -> Operator {
    Operator::new("annotating-webhook")
        .version(env!("CARGO_PKG_VERSION"))
        .webhook(Webhook::mutating(CreatedBy).operations([Operation::Create]))
}

#[tokio::main]
async fn main() -> Result {
    operator().main().await
}

#[cfg(test)]
mod tests;
