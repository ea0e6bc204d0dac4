//! CREATE and UPDATE: one way for every write of an object, whatever it came as (POST, PUT, a patch, an apply).
//!
//! change → managedFields → mutating admission → reserve → prepare → validate → validating admission → store
//! (compare-and-swap, tried again with the newest object when somebody else was faster).

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kubewright_machinery::field::{self, Path};
use kubewright_machinery::status::Status;
use kubewright_machinery::{meta, names};
use kubewright_storage::{Entry, Expect, StoreError};
use serde_json::Value;

use super::body::{self, Expected};
use super::get::is_plain;
use super::{Call, managers, metadata, patch, read_body, scale, store_failure};
use crate::admission::{Operation, Phase};
use crate::authz::{self, Decision};
use crate::request::negotiate::Endpoint;
use crate::request::params::WriteKind;
use crate::request::{Output, WriteOptions};
use crate::resources::{
    MetaChecks, RequestBody, Reservation, Strategy, SubresourceAction, WriteContext, splice,
};
use crate::server::{Response, respond};

/// How often a generated name is tried.
const NAME_ATTEMPTS: usize = 8;
const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// What a write was asked to do to the object that is there.
pub(super) enum Change {
    /// Puts this in its place.
    Replace(Value),
    /// Applies a patch.
    Patch(patch::Patch),
    /// Writes the object's Scale.
    Scale(Box<scale::Edit>),
}

/// What a write left behind.
pub(super) struct Written {
    /// The object in its served version, with its revision.
    pub object: Value,
    /// The bytes stored, where they are as served.
    at_rest: Option<(Bytes, u64)>,
    /// Whether it is new.
    pub created: bool,
}

/// One write.
pub(super) struct Writer<'c> {
    pub call: &'c Call,
    pub options: WriteOptions,
    /// Options of a create, and of an update, as admission sees them.
    create_options: OnceLock<Value>,
    update_options: OnceLock<Value>,
    /// What a strict decoder says of the patch.
    pub patch_faults: Vec<String>,
    pub strategy: Arc<dyn Strategy>,
    pub now: jiff::Timestamp,
}

/// POST on a collection.
pub(super) async fn create(call: &Call, body: RequestBody) -> Result<Response, Status> {
    let output = call.output(Endpoint::Object)?;
    let input = call.input()?;
    let body = read_body(body).await?;
    let options = WriteOptions::parse(&call.info.query, WriteKind::Create)?;
    let mut object =
        body::object(call, &body, &input, options.field_validation, &Expected::of(&call.resource))?;
    call.resource.default(&mut object);
    call.note_sent(&object);
    metadata::wipe(&mut object);
    metadata::ensure_namespace(&mut object, call.namespace())?;
    metadata::dedup_owners(call, &mut object, false);
    let writer = Writer::new(call, options);
    let manager = writer.options.manager(call.user_agent());
    let object = managers::update(call, None, object, &manager, writer.now);
    let written = writer.create(object, None).await?;
    written.answer(call, output)
}

/// PUT on an object, or on a subresource that is the object itself.
pub(super) async fn replace(call: &Call, body: RequestBody) -> Result<Response, Status> {
    let output = call.output(Endpoint::Object)?;
    let body = read_body(body).await?;
    let options = WriteOptions::parse(&call.info.query, WriteKind::Update)?;
    let input = call.input()?;
    let mut object =
        body::object(call, &body, &input, options.field_validation, &Expected::of(&call.resource))?;
    call.resource.default(&mut object);
    call.note_sent(&object);
    metadata::ensure_namespace(&mut object, call.namespace())?;
    metadata::check_name(&object, &call.info.name)?;
    metadata::dedup_owners(call, &mut object, false);
    let written = Writer::new(call, options).update(Change::Replace(object)).await?;
    written.answer(call, output)
}

/// The metadata, for validation.
fn of(object: &Value) -> &Value {
    object.get("metadata").unwrap_or(&Value::Null)
}

impl Written {
    /// Answers with the object.
    pub fn answer(self, call: &Call, output: Output) -> Result<Response, Status> {
        let code = if self.created { 201 } else { 200 };
        match self.at_rest {
            Some((bytes, revision)) if is_plain(output) => {
                Ok(respond::with(code, respond::JSON, call.head.served(&bytes, revision)))
            }
            _ => call.answer(code, output, self.object),
        }
    }
}

impl<'c> Writer<'c> {
    /// A write with the strategy of the endpoint.
    pub fn new(call: &'c Call, options: WriteOptions) -> Self {
        let strategy = match call.subresource().map(|s| &s.action) {
            Some(SubresourceAction::Update(strategy)) => strategy,
            _ => &call.resource.strategy,
        };
        Self {
            call,
            create_options: OnceLock::new(),
            update_options: OnceLock::new(),
            options,
            patch_faults: Vec::new(),
            strategy: Arc::clone(strategy),
            now: call.core.now(),
        }
    }

    fn context<'a>(&'a self, operation: Operation) -> WriteContext<'a> {
        WriteContext {
            core: &self.call.core,
            resource: &self.call.resource,
            subresource: self.call.subresource(),
            operation,
            namespace: self.call.namespace(),
            name: &self.call.info.name,
            user: &self.call.user,
            dry_run: self.options.dry_run,
            options: self.options_of(operation),
            now: self.now,
        }
    }

    fn options_of(&self, operation: Operation) -> &Value {
        let (made, kind) = match operation {
            Operation::Create => (&self.create_options, "CreateOptions"),
            _ => (&self.update_options, "UpdateOptions"),
        };
        made.get_or_init(|| self.options.to_object(kind))
    }

    /// Runs the plugins over the object.
    async fn admit(
        &self,
        operation: Operation,
        object: Value,
        old: Option<&Arc<Value>>,
        phase: Phase,
    ) -> Result<Value, Status> {
        self.call.admit_object(&self.context(operation), object, old, &[phase]).await
    }

    /// Creates the object, whose managedFields are done. `authorize` when the request was not a create.
    pub async fn create(&self, object: Value, authorize: Option<()>) -> Result<Written, Status> {
        let call = self.call;
        let mut object = self.admit(Operation::Create, object, None, Phase::Mutate).await?;
        metadata::dedup_owners(call, &mut object, true);
        let generated = meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty();
        let mut attempts = if generated { NAME_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            let candidate = if attempts == 0 { std::mem::take(&mut object) } else { object.clone() };
            match self.try_create(candidate, authorize).await {
                Err(status) if attempts > 0 && status.reason == "AlreadyExists" => {}
                done => return done,
            }
        }
    }

    async fn try_create(&self, mut object: Value, authorize: Option<()>) -> Result<Written, Status> {
        let call = self.call;
        let resource = &call.resource;
        metadata::fill(call, &mut object, self.now);
        let base = meta::generate_name(&object).to_string();
        let generated = !base.is_empty() && meta::name(&object).is_empty();
        if generated {
            let name = names::generate_name(&base, u64::from_le_bytes(call.core.random()));
            meta::set(&mut object, "name", name);
        }
        let cx = self.context(Operation::Create);
        let reservation = self.strategy.reserve(&cx, &mut object, None).await?;
        metadata::ensure_namespace(&mut object, call.namespace())?;
        metadata::first_generation(&resource.rules.generation, &mut object);
        self.strategy.prepare_create(&cx, &mut object);
        let check =
            || meta::validate(of(&object), resource.namespaced, resource.rules.name, &Path::new("metadata"));
        let mut errors = Vec::new();
        if resource.rules.meta_checks != MetaChecks::Strategy {
            errors = check();
        }
        errors.extend(self.strategy.validate_create(&cx, &object));
        if resource.rules.meta_checks == MetaChecks::Strategy && errors.is_empty() {
            errors = check();
        }
        self.refuse(&object, &errors)?;
        for warning in self.strategy.warnings(&cx, &object, None) {
            call.warn(warning);
        }
        self.strategy.settle(&mut object);
        resource.forget_nulls(&mut object);
        if authorize.is_some() {
            self.authorize_create().await?;
        }
        let checked = self.admit(Operation::Create, object, None, Phase::Validate).await?;
        self.store_new(checked, !base.is_empty(), reservation).await
    }

    async fn store_new(
        &self,
        mut object: Value,
        generated: bool,
        reservation: Option<Box<dyn Reservation>>,
    ) -> Result<Written, Status> {
        let call = self.call;
        let resource = &call.resource;
        if !matches!(meta::resource_version(&object), "" | "0") {
            return Err(Status::failure(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        meta::remove(&mut object, "resourceVersion");
        let name = meta::name(&object).to_string();
        let key = call.key(call.namespace(), &name)?;
        let store = call.store();
        let conflict = |current: Option<Entry>| {
            let mut status = if generated {
                Status::generate_name_conflict(&resource.group, &resource.plural, &name, 1)
            } else {
                Status::already_exists(&resource.group, &resource.plural, &name)
            };
            let deleting = current.and_then(|e| splice::decode(&e.value, e.revision).ok());
            if deleting.as_ref().is_some_and(meta::is_deleting) {
                status.message = format!("object is being deleted: {}", status.message);
            }
            status
        };
        if self.options.dry_run {
            if let Some(current) = store.get(&key, None).await.map_err(|e| store_failure(&e))? {
                return Err(conflict(Some(current)));
            }
            return Ok(Written { object, at_rest: None, created: true });
        }
        let bytes = self.at_rest(&object).await?;
        let revision = match store.put(&key, bytes.clone(), Expect::Absent).await {
            Ok(revision) => revision,
            Err(StoreError::Conflict { current }) => return Err(conflict(current)),
            Err(error) => return Err(store_failure(&error)),
        };
        if let Some(reservation) = reservation {
            reservation.commit();
        }
        self.strategy.written(&call.core, &object).await;
        self.done(object, bytes, revision, true).await
    }

    /// What there is to answer with. Where the stored version is another one, the answer is what a read would give:
    /// fields that the stored version does not have are lost.
    async fn done(
        &self,
        mut object: Value,
        bytes: Bytes,
        revision: u64,
        created: bool,
    ) -> Result<Written, Status> {
        let served = self.call.is_served_form(&bytes, revision);
        if !served && self.call.storage()?.converter.is_some() {
            object = self.call.decode_one(&bytes, revision).await?;
        }
        meta::set(&mut object, "resourceVersion", revision.to_string());
        Ok(Written { object, at_rest: served.then_some((bytes, revision)), created })
    }

    /// The bytes to store.
    async fn at_rest(&self, object: &Value) -> Result<Bytes, Status> {
        let storage = self.call.storage()?;
        match &storage.converter {
            Some(converter) if *storage.api_version != *meta::api_version(object) => {
                let mut stored = object.clone();
                converter.to_stored(&mut stored).await?;
                Ok(splice::at_rest(&stored))
            }
            _ => Ok(splice::at_rest(object)),
        }
    }

    fn refuse(&self, object: &Value, errors: &[field::Error]) -> Result<(), Status> {
        if errors.is_empty() {
            return Ok(());
        }
        let resource = &self.call.resource;
        // A kind that is stored under another group is refused in that group's name.
        let group_of =
            |api_version: &str| api_version.rsplit_once('/').map_or("", |(group, _)| group).to_string();
        let (group, kind) = match (resource.custom, resource.storage()) {
            // Their kind may be what is wrong.
            (true, _) => (group_of(meta::api_version(object)), meta::kind(object)),
            (false, Some(storage)) => (group_of(&storage.api_version), &*resource.kind),
            (false, None) => (resource.group.to_string(), &*resource.kind),
        };
        Err(Status::invalid(&group, kind, meta::name(object), errors))
    }

    /// Who creates by update needs the right to create.
    async fn authorize_create(&self) -> Result<(), Status> {
        let call = self.call;
        let mut attributes = crate::server::attributes(&call.user, &call.info);
        attributes.verb = "create".into();
        match authz::exercise(&call.core, &attributes).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                Err(authz::forbidden(&attributes, &reason))
            }
        }
    }

    /// Changes the object that is there, or creates it where that is allowed.
    pub async fn update(&self, change: Change) -> Result<Written, Status> {
        let call = self.call;
        let resource = &call.resource;
        let name = &*call.info.name;
        let key = call.key(call.namespace(), name)?;
        let creates = call.subresource.is_none()
            && (resource.rules.create_on_update
                || matches!(&change, Change::Patch(patch) if patch.may_create()));
        loop {
            let entry = call.store().get(&key, None).await.map_err(|e| store_failure(&e))?;
            if let Change::Replace(object) = &change {
                self.check_uid(entry.as_ref(), object, creates).await?;
            }
            let outcome = match entry {
                Some(entry) => self.try_update(&change, &key, entry).await,
                None if creates => self.create_by_update(&change).await.map(Some),
                None => return Err(call.not_found(name)),
            };
            // Somebody else was faster: look again.
            if let Some(written) = outcome? {
                return Ok(written);
            }
        }
    }

    /// The uid in the body of a PUT is a precondition.
    async fn check_uid(&self, entry: Option<&Entry>, object: &Value, creates: bool) -> Result<(), Status> {
        let asked = meta::uid(object);
        if asked.is_empty() {
            return Ok(());
        }
        let found = match entry {
            Some(entry) => {
                let header =
                    kubewright_machinery::scan::Header::scan(&entry.value).map_err(Status::internal)?;
                header.uid.into_owned()
            }
            None if creates => String::new(),
            None => return Ok(()),
        };
        if found == asked {
            return Ok(());
        }
        Err(self.call.other_uid(asked, &found)?)
    }

    async fn create_by_update(&self, change: &Change) -> Result<Written, Status> {
        let call = self.call;
        let manager = self.options.manager(call.user_agent());
        let mut object = match change {
            Change::Replace(object) => managers::update(call, None, object.clone(), &manager, self.now),
            Change::Patch(patch) => {
                let object = patch.create(self)?;
                if !meta::uid(&object).is_empty() {
                    let why = format!(
                        "uid mismatch: the provided object specified uid {}, and no existing object was found",
                        meta::uid(&object)
                    );
                    return Err(call.conflict(&call.info.name, why));
                }
                object
            }
            Change::Scale(_) => return Err(call.not_found(&call.info.name)),
        };
        metadata::ensure_namespace(&mut object, call.namespace())?;
        metadata::check_name(&object, &call.info.name)?;
        metadata::wipe(&mut object);
        // There is nothing that it could be a version of.
        meta::remove(&mut object, "resourceVersion");
        self.create(object, Some(())).await
    }

    /// `None` when the object changed in between.
    async fn try_update(&self, change: &Change, key: &str, entry: Entry) -> Result<Option<Written>, Status> {
        let call = self.call;
        let resource = &call.resource;
        let name = &*call.info.name;
        let old = Arc::new(call.decode_one(&entry.value, entry.revision).await?);
        let manager = self.options.manager(call.user_agent());
        let mut object = match change {
            Change::Replace(object) => managers::update(call, Some(&old), object.clone(), &manager, self.now),
            Change::Patch(patch) => {
                let mut object = patch.apply(self, &old)?;
                metadata::ensure_namespace(&mut object, call.namespace())?;
                metadata::check_name(&object, name)?;
                object
            }
            Change::Scale(edit) => edit.apply(self, &old)?,
        };
        object = self.admit(Operation::Update, object, Some(&old), Phase::Mutate).await?;
        metadata::dedup_owners(call, &mut object, true);

        let asked = match meta::resource_version(&object) {
            "" | "0" => 0,
            text => text.parse::<u64>().map_err(|_| {
                let quoted = field::quote(text);
                let why = format!("strconv.ParseUint: parsing {quoted}: invalid syntax");
                Status::failure(500, "", why)
            })?,
        };
        if asked == 0 && !resource.rules.unconditional_update {
            let path = Path::new("metadata");
            let error =
                field::Error::invalid(&path.child("resourceVersion"), 0, "must be specified for an update");
            return Err(Status::invalid(&resource.group, &resource.plural, name, &[error]));
        }
        if asked != 0 && asked != entry.revision {
            return Err(call.conflict(name, MODIFIED));
        }
        meta::set(&mut object, "resourceVersion", entry.revision.to_string());

        let cx = self.context(Operation::Update);
        let reservation = self.strategy.reserve(&cx, &mut object, Some(&old)).await?;
        metadata::ensure_namespace(&mut object, call.namespace())?;
        match meta::get(&old, "generation") {
            Some(generation) => meta::set(&mut object, "generation", generation.clone()),
            None => drop(meta::remove(&mut object, "generation")),
        }
        self.strategy.prepare_update(&cx, &mut object, &old);
        if meta::generation(&object) == meta::generation(&old) {
            metadata::next_generation(&resource.rules.generation, &mut object, &old);
        }
        metadata::keep(&mut object, &old);
        self.validate_update(&cx, &object, &old)?;
        for warning in self.strategy.warnings(&cx, &object, Some(&old)) {
            call.warn(warning);
        }
        resource.forget_nulls(&mut object);
        managers::keep_times(&old, &mut object);
        let object = self.admit(Operation::Update, object, Some(&old), Phase::Validate).await?;

        // Whichever endpoint takes the last hold away: the kind says what else holds, and is told.
        if metadata::is_released(&object, &old) && !resource.strategy.held(&object) {
            return self.delete_released(key, &entry, object).await;
        }
        let bytes = self.at_rest(&object).await?;
        if bytes == entry.value {
            // Nothing changed: nothing is written.
            return self.done(object, bytes, entry.revision, false).await.map(Some);
        }
        if self.options.dry_run {
            return Ok(Some(Written { object, at_rest: None, created: false }));
        }
        match call.store().put(key, bytes.clone(), Expect::Revision(entry.revision)).await {
            Ok(revision) => {
                if let Some(reservation) = reservation {
                    reservation.commit();
                }
                self.strategy.written(&call.core, &object).await;
                self.done(object, bytes, revision, false).await.map(Some)
            }
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(store_failure(&error)),
        }
    }

    fn validate_update(&self, cx: &WriteContext<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        let resource = &self.call.resource;
        let path = Path::new("metadata");
        let (new_meta, old_meta) = (of(object), of(old));
        let mut errors = meta::validate(new_meta, resource.namespaced, names::name_is_path_segment, &path);
        errors.extend(meta::validate_update(new_meta, old_meta, &path));
        // The checks of most kinds look at the metadata once more, and some twice.
        if matches!(resource.rules.meta_checks, MetaChecks::Twice | MetaChecks::Full) {
            errors.extend(meta::validate_update(new_meta, old_meta, &path));
        }
        if resource.rules.meta_checks == MetaChecks::Full {
            errors.extend(meta::validate(new_meta, resource.namespaced, resource.rules.name, &path));
        }
        errors.extend(self.strategy.validate_update(cx, object, old));
        self.refuse(object, &errors)
    }

    /// The last finalizer is gone: so is the object.
    async fn delete_released(
        &self,
        key: &str,
        entry: &Entry,
        object: Value,
    ) -> Result<Option<Written>, Status> {
        if !self.options.dry_run {
            match self.call.store().delete(key, Expect::Revision(entry.revision)).await {
                Ok(_) => {
                    let cx = self.context(Operation::Update);
                    self.call.resource.strategy.deleted(&cx, &object).await;
                }
                Err(StoreError::NotFound) => {}
                Err(StoreError::Conflict { .. }) => return Ok(None),
                Err(error) => return Err(store_failure(&error)),
            }
        }
        Ok(Some(Written { object, at_rest: None, created: false }))
    }
}
