//! kubewright-machinery
