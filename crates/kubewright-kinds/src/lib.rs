//! kubewright-kinds
