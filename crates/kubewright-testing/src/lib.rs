//! kubewright-testing
