//! kubewright-cluster
