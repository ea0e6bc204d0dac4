//! kubewright-storage
