//! kubewright-apiserver
