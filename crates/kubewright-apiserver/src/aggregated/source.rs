//! A kind whose objects are kept by its author: in a database, in files, or nowhere, computed when somebody asks.
//!
//! Three small traits, of which only the first is needed: [`Source`] reads, [`Sink`] writes, [`Changes`] tells of
//! changes. What a kind's source cannot do, the kind is not served with: without a sink it is read-only, without changes
//! it cannot be watched.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Key, Object};
use crate::BoxFuture;

/// Why a source did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The object to be created is there already.
    #[error("the object exists")]
    Exists,
    /// The object is not there.
    #[error("there is no such object")]
    Missing,
    /// The object is not at the version that the writer saw.
    #[error("the object has changed")]
    Conflict,
    /// The source itself failed: a connection, a disk.
    #[error("the source failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

impl SourceError {
    /// The source itself failed.
    pub fn failed(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(cause.into())
    }
}

/// Reads the objects of a kind.
///
/// An object's resourceVersion is a number from 1 that grows with every change of any object of the kind, such as a
/// sequence of the database; clients see one more. A source that is neither written nor watched may leave it out.
pub trait Source: Send + Sync + 'static {
    /// The kind's own fields.
    type Body: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// One object.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Object<Self::Body>>, SourceError>> + Send;

    /// The objects of a namespace, or of all of them, in any order.
    fn list(
        &self,
        namespace: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Object<Self::Body>>, SourceError>> + Send;
}

/// Writes the objects of a kind. Each write is compared and done in one step, and gives the version that it made.
pub trait Sink: Source {
    /// Keeps a new object. [`SourceError::Exists`] where there is one of that name.
    fn create(&self, object: Object<Self::Body>) -> impl Future<Output = Result<u64, SourceError>> + Send;

    /// Replaces an object that is at version `expected`. [`SourceError::Conflict`] or [`SourceError::Missing`] where it
    /// is not.
    fn update(
        &self,
        object: Object<Self::Body>,
        expected: u64,
    ) -> impl Future<Output = Result<u64, SourceError>> + Send;

    /// Removes an object that is at version `expected`. The errors are those of an update.
    fn delete(&self, key: &Key, expected: u64) -> impl Future<Output = Result<u64, SourceError>> + Send;
}

/// Tells of changes.
pub trait Changes: Source {
    /// Every change after this call, in order of versions, also those made through the [`Sink`]. The end of the stream
    /// means that changes may have been missed: clients list again, and the source is asked anew.
    fn changes(&self) -> BoxStream<'static, Change<Self::Body>>;
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<B> {
    /// An object is new, or different; its version is that of the change.
    Put(Object<B>),
    /// An object is gone.
    Deleted {
        /// Which one.
        key: Key,
        /// The version of the deletion.
        version: u64,
    },
}

/// [`Source`], on JSON.
pub(super) trait Rows: Send + Sync {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Value>, SourceError>>;
    fn list<'a>(&'a self, namespace: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Value>, SourceError>>;
}

/// [`Sink`], on JSON.
pub(super) trait Writes: Send + Sync {
    fn create(&self, object: Value) -> BoxFuture<'_, Result<u64, SourceError>>;
    fn update(&self, object: Value, expected: u64) -> BoxFuture<'_, Result<u64, SourceError>>;
    fn delete<'a>(&'a self, key: &'a Key, expected: u64) -> BoxFuture<'a, Result<u64, SourceError>>;
}

/// [`Change`], on JSON.
pub(super) enum Told {
    Put(Value),
    Deleted { key: Key, version: u64 },
}

/// [`Changes`], on JSON.
pub(super) trait Feed: Send + Sync {
    fn changes(&self) -> BoxStream<'static, Result<Told, SourceError>>;
}

/// A source of a type, on JSON.
pub(super) struct OnJson<S>(pub Arc<S>);

fn written<B: Serialize + DeserializeOwned>(object: &Object<B>) -> Result<Value, SourceError> {
    object.write().map_err(SourceError::failed)
}

fn read<B: Serialize + DeserializeOwned>(object: &Value) -> Result<Object<B>, SourceError> {
    Object::read(object).map_err(SourceError::failed)
}

impl<S: Source> Rows for OnJson<S> {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Value>, SourceError>> {
        Box::pin(async move { self.0.get(key).await?.as_ref().map(written).transpose() })
    }

    fn list<'a>(&'a self, namespace: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Value>, SourceError>> {
        Box::pin(async move { self.0.list(namespace).await?.iter().map(written).collect() })
    }
}

impl<S: Sink> Writes for OnJson<S> {
    fn create(&self, object: Value) -> BoxFuture<'_, Result<u64, SourceError>> {
        Box::pin(async move { self.0.create(read(&object)?).await })
    }

    fn update(&self, object: Value, expected: u64) -> BoxFuture<'_, Result<u64, SourceError>> {
        Box::pin(async move { self.0.update(read(&object)?, expected).await })
    }

    fn delete<'a>(&'a self, key: &'a Key, expected: u64) -> BoxFuture<'a, Result<u64, SourceError>> {
        Box::pin(self.0.delete(key, expected))
    }
}

impl<S: Changes> Feed for OnJson<S> {
    fn changes(&self) -> BoxStream<'static, Result<Told, SourceError>> {
        let changes = self.0.changes().map(|change| match change {
            Change::Put(object) => written(&object).map(Told::Put),
            Change::Deleted { key, version } => Ok(Told::Deleted { key, version }),
        });
        changes.boxed()
    }
}
