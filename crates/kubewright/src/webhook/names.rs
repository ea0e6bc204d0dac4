//! What the objects around an operator's webhooks and metrics are called: Services, the Secret, the configurations. Said
//! once, for the manifests and for the process that looks after them.

/// The port of the Service.
pub(crate) const SERVICE_PORT: u16 = 443;
/// The port that the process serves on where nothing else is said.
pub(crate) const DEFAULT_ADDRESS: &str = ":9443";
/// The name of the Service's port.
pub(crate) const PORT_NAME: &str = "webhook";

/// The names of an operator's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The operator, and its configurations of webhooks.
    pub operator: String,
    /// Where it runs.
    pub namespace: String,
}

impl Names {
    pub(crate) fn new(operator: &str, namespace: &str) -> Names {
        Names { operator: operator.into(), namespace: namespace.into() }
    }

    /// The Service that API servers call.
    pub(crate) fn service(&self) -> String {
        format!("{}-webhook", self.operator)
    }

    /// The Secret with the certificates.
    pub(crate) fn secret(&self) -> String {
        format!("{}-webhook-certificates", self.operator)
    }

    /// The Service that scrapers of metrics call.
    pub(crate) fn metrics_service(&self) -> String {
        format!("{}-metrics", self.operator)
    }

    /// The names that the serving certificate of webhooks is for; API servers use the first.
    pub(crate) fn dns(&self) -> Vec<String> {
        self.dns_of(&self.service())
    }

    /// The names that a certificate of one of the Services is for.
    pub(crate) fn dns_of(&self, service: &str) -> Vec<String> {
        let base = format!("{service}.{}", self.namespace);
        vec![format!("{base}.svc"), format!("{base}.svc.cluster.local"), base]
    }
}
