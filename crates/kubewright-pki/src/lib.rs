//! kubewright-pki
