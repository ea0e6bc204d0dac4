//! The operator runtime of Kubewright: watch → cache → queue → `reconcile` → client.
//!
//! An operator is a [`Reconciler`] and what triggers it. This one is complete: run it with `run`, and
//! print what it needs in a cluster (definitions and the role that follows from what it declares) with
//! `manifests`.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
//! use kube::{Resource, ResourceExt};
//! use kubewright::{Action, Context, Controller, Key, Operator, Reconciler, Result};
//!
//! /// Puts a greeting into every namespace.
//! struct Greeter;
//!
//! impl Reconciler for Greeter {
//!     type Object = Namespace;
//!
//!     async fn reconcile(&self, namespace: Arc<Namespace>, cx: &Context) -> Result<Action> {
//!         let mut greeting = ConfigMap::default();
//!         greeting.meta_mut().name = Some("greeting".into());
//!         greeting.meta_mut().namespace = Some(namespace.name_any());
//!         greeting.data = Some([("hello".into(), namespace.name_any())].into());
//!         cx.apply_children(&namespace, [greeting]).await?;
//!         Ok(Action::done())
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result {
//!     Operator::new("greeter").controller(Controller::new(Greeter).owns::<ConfigMap>()).main().await
//! }
//! ```
//!
//! # Reading
//!
//! Reads come from the cache, wait for this process's own writes, and are limited to what the controller
//! declares; each kind is watched once however many controllers read it.
//!
//! ```no_run
//! # use k8s_openapi::api::core::v1::{Node, Pod};
//! # use kubewright::{Context, Result, cache::Index, Controller, Reconciler};
//! # async fn reads(cx: &Context, owner: &Pod) -> Result {
//! let node = cx.get::<Node>("node-1").await?; // Option<Arc<Node>>
//! let pod = cx.get::<Pod>(("default", "web")).await?;
//! let everywhere = cx.list::<Pod>().await?; // derefs to [Arc<Pod>]
//! let mine = cx.list::<Pod>().in_namespace("default").owned_by(owner).await?;
//! // With `.index(Index::path::<Pod>("spec.nodeName"))` on the controller:
//! let there = cx.list::<Pod>().indexed("spec.nodeName", "node-1").labels("app=web").await?;
//! let bytes = cx.list::<Pod>().may_be_stale().raw().await?; // undecoded, without waiting
//! # Ok(()) }
//! ```
//!
//! Everything else goes through [`Context::client`], a plain [`kube::Client`] that refuses what is not
//! declared ([`Controller::reads`], [`Controller::writes`], [`Controller::permits`]), so that the printed
//! role can't drift from the code.
//!
//! The same client can be made to keep to options: dry runs, other owners and users, one namespace. A context can, too,
//! with all its helpers.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
//! # use kubewright::client::{ClientOptions, Impersonate};
//! # use kubewright::{Context, Result};
//! # async fn options(cx: &Context, owner: &Arc<Namespace>, wanted: Vec<ConfigMap>) -> Result {
//! let tenant = ClientOptions::new().as_user(Impersonate::service_account("team", "deployer"));
//! let trial = cx.with(&tenant.clone().dry_run());
//! trial.apply_children(owner, wanted.clone()).await?; // would the tenant be allowed to? Nothing stays
//! cx.with(&tenant).apply_children(owner, wanted).await?;
//! // Kinds learnt of at run time:
//! let widget = cx.mapper().kind("example.com", "Widget").await?; // an error says what is missing
//! let widgets = cx.mapper().api(&cx.client(), &widget.kind, Some("team"));
//! # Ok(()) }
//! ```
//!
//! # Running
//!
//! [`Operator::main`] is the whole program; [`Operator::run`] runs in a test or another program with any
//! `kube::Client`; [`Manager`] is the layer below, and [`cache`] the one below that, for code that follows
//! kinds it learns of at run time.

pub mod cache;
pub mod client;
pub mod composite;
pub mod conditions;
mod context;
mod controller;
mod error;
mod kind;
mod leader;
mod lease;
mod limits;
mod logs;
mod manager;
mod operator;
pub mod owners;
pub mod queue;
mod rate;
mod serving;
mod sharding;
pub mod webhook;

pub use client::{Permit, Verb};
pub use context::{
    Access, Children, ChildrenReport, Context, Event, Get, IntoChildren, List, Listed, Uses, View,
};
pub use controller::{Action, Controller, External, Predicate, RawReconciler, Reason, Reconciler, Trigger};
pub use error::{Error, Result};
pub use kind::{BuiltIn, Custom, Defined, Key, Kind, Object};
pub use leader::LeaderElection;
pub use lease::{Fenced, LeaseTiming};
pub use manager::{Cluster, Manager, Readiness, Runnable, Running};
pub use operator::Operator;
pub use rate::{InvalidLimit, RateLimit};
pub use sharding::Sharding;
