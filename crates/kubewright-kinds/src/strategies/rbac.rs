//! What roles and bindings do with writes: nobody gives away more rights than they have.

use kubewright_apiserver::authz::rbac;
use kubewright_apiserver::resources::{Reservation, WriteContext};
use kubewright_apiserver::{BoxFuture, ready};
use kubewright_machinery::status::Status;
use serde_json::Value;

use super::Allocator;

/// Refuses writes that would give away more than the writer has. It sets nothing aside: it stands where it does because
/// the check comes after mutating admission and before validation.
pub(crate) struct NoEscalation;

impl Allocator for NoEscalation {
    fn reserve<'a>(
        &'a self,
        cx: &'a WriteContext<'a>,
        object: &'a mut Value,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>, Status>> {
        Box::pin(async move {
            rbac::guard(cx, object, old).await?;
            Ok(None)
        })
    }

    fn release<'a>(&'a self, _cx: &'a WriteContext<'a>, _object: &'a Value) -> BoxFuture<'a, ()> {
        ready(())
    }
}
