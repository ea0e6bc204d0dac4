//! Fischer: an API server of two kinds, served beside those of a cluster. Fischers are kept in a file, not in the
//! cluster's store; markets are kept nowhere: they are computed from the fischers whenever somebody asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{self, BoxStream, StreamExt};
use kubewright_apiserver::aggregated::{
    AggregatedServer, Change, Changes, Key, Kind, Object, Rules, Sink, Source, SourceError, field,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

const GROUP: &str = "wardle.example.com";
const VERSION: &str = "v1alpha1";

/// Somebody who fishes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
struct Fischer {
    spec: FischerSpec,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
struct FischerSpec {
    /// What the fischer goes out in.
    boat: Boat,
    /// Fish a day.
    #[schemars(range(min = 0, max = 1000))]
    catch: u32,
    /// What is fished for.
    #[serde(default)]
    species: Vec<String>,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq)]
enum Boat {
    Dinghy,
    Trawler,
}

/// What is allowed at sea.
struct Licence;

impl Rules for Licence {
    type Body = Fischer;

    fn prepare(&self, new: &mut Object<Fischer>, _old: Option<&Object<Fischer>>) {
        new.body.spec.species.sort();
        new.body.spec.species.dedup();
    }

    fn validate(&self, new: &Object<Fischer>, old: Option<&Object<Fischer>>) -> Vec<field::Error> {
        let (spec, path) = (&new.body.spec, field::Path::new("spec"));
        let mut faults = Vec::new();
        if spec.boat == Boat::Dinghy && spec.catch > 50 {
            faults.push(field::Error::invalid(&path.child("catch"), spec.catch, "a dinghy holds 50 fish"));
        }
        if old.is_some_and(|old| old.body.spec.boat == Boat::Trawler && spec.boat == Boat::Dinghy) {
            faults.push(field::Error::forbidden(&path.child("boat"), "trawlers are for life"));
        }
        faults
    }

    fn warn(&self, new: &Object<Fischer>, _old: Option<&Object<Fischer>>) -> Vec<String> {
        match new.body.spec.species.is_empty() {
            true => vec!["spec.species: whoever fishes for nothing catches nothing".into()],
            false => Vec::new(),
        }
    }
}

/// The file with the fischers. Think of a database: rows with a version from one sequence, and a feed of changes.
struct Ledger {
    file: PathBuf,
    page: Mutex<Page>,
    news: broadcast::Sender<Change<Fischer>>,
}

#[derive(Serialize, Deserialize, Clone, Default)]
struct Page {
    version: u64,
    /// By `NAMESPACE/NAME`.
    fischers: BTreeMap<String, Object<Fischer>>,
}

impl Ledger {
    fn open(file: PathBuf) -> std::io::Result<Self> {
        let page = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Page::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, page: Mutex::new(page), news: broadcast::Sender::new(1024) })
    }

    fn read<T>(&self, look: impl FnOnce(&Page) -> T) -> T {
        look(&self.page.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One write: what is expected, compared with what is there; the next version; the file; the news.
    fn write(
        &self,
        key: &Key,
        expected: Option<u64>,
        object: Option<Object<Fischer>>,
    ) -> Result<u64, SourceError> {
        let mut page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        match (expected, page.fischers.get(&row(key)).map(Object::version)) {
            (None, Some(_)) => return Err(SourceError::Exists),
            (Some(_), None) => return Err(SourceError::Missing),
            (Some(expected), Some(found)) if found != expected => return Err(SourceError::Conflict),
            _ => {}
        }
        let mut next = page.clone();
        let version = next.version + 1;
        next.version = version;
        let change = match object {
            Some(mut object) => {
                object.metadata.resource_version = version.to_string();
                next.fischers.insert(row(key), object.clone());
                Change::Put(object)
            }
            None => {
                next.fischers.remove(&row(key));
                Change::Deleted { key: key.clone(), version }
            }
        };
        let draft = self.file.with_extension("new");
        std::fs::write(&draft, serde_json::to_vec_pretty(&next).map_err(SourceError::failed)?)
            .and_then(|()| std::fs::rename(&draft, &self.file))
            .map_err(SourceError::failed)?;
        *page = next;
        // While the page is ours, so that news come in order. It is nobody's fault if nobody listens.
        let _ = self.news.send(change);
        Ok(version)
    }
}

fn row(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

impl Source for Ledger {
    type Body = Fischer;

    async fn get(&self, key: &Key) -> Result<Option<Object<Fischer>>, SourceError> {
        Ok(self.read(|page| page.fischers.get(&row(key)).cloned()))
    }

    async fn list(&self, namespace: Option<&str>) -> Result<Vec<Object<Fischer>>, SourceError> {
        let wanted = |fischer: &&Object<Fischer>| namespace.is_none_or(|n| fischer.metadata.namespace == n);
        Ok(self.read(|page| page.fischers.values().filter(wanted).cloned().collect()))
    }
}

impl Sink for Ledger {
    async fn create(&self, fischer: Object<Fischer>) -> Result<u64, SourceError> {
        self.write(&fischer.key(), None, Some(fischer))
    }

    async fn update(&self, fischer: Object<Fischer>, expected: u64) -> Result<u64, SourceError> {
        self.write(&fischer.key(), Some(expected), Some(fischer))
    }

    async fn delete(&self, key: &Key, expected: u64) -> Result<u64, SourceError> {
        self.write(key, Some(expected), None)
    }
}

impl Changes for Ledger {
    fn changes(&self) -> BoxStream<'static, Change<Fischer>> {
        // Whoever falls too far behind is told so by the end of the stream.
        stream::unfold(self.news.subscribe(), async |mut news| Some((news.recv().await.ok()?, news))).boxed()
    }
}

/// What comes ashore in a namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
struct Market {
    /// How many fischers there are.
    fischers: usize,
    /// Their fish a day, together.
    fish: u32,
}

/// Markets: one in each namespace that has fischers, by the name `fish`.
struct Markets(Arc<Ledger>);

impl Source for Markets {
    type Body = Market;

    async fn get(&self, key: &Key) -> Result<Option<Object<Market>>, SourceError> {
        let markets = self.list(Some(&key.namespace)).await?;
        Ok(markets.into_iter().find(|market| market.key() == *key))
    }

    async fn list(&self, namespace: Option<&str>) -> Result<Vec<Object<Market>>, SourceError> {
        let mut markets: BTreeMap<Key, Market> = BTreeMap::new();
        for fischer in self.0.list(namespace).await? {
            let key = Key::new(fischer.metadata.namespace, "fish");
            let market = markets.entry(key).or_insert(Market { fischers: 0, fish: 0 });
            market.fischers += 1;
            market.fish += fischer.body.spec.catch;
        }
        Ok(markets.into_iter().map(|(key, market)| Object::new(key, market)).collect())
    }
}

fn server(ledger: &Arc<Ledger>) -> AggregatedServer {
    let fischers = Kind::new::<Fischer>(GROUP, VERSION, "Fischer", "fischers")
        .short_name("fi")
        .category("all")
        .column("Boat", "string", ".spec.boat")
        .column("Catch", "integer", ".spec.catch")
        .column("Age", "date", ".metadata.creationTimestamp")
        .rules(Licence)
        .kept_by(ledger)
        .watched_by(ledger);
    let markets = Kind::new::<Market>(GROUP, VERSION, "Market", "markets")
        .column("Fischers", "integer", ".fischers")
        .column("Fish", "integer", ".fish")
        .read_from(&Arc::new(Markets(Arc::clone(ledger))));
    AggregatedServer::new("fischer").version(env!("CARGO_PKG_VERSION")).kind(fischers).kind(markets)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::var_os("FISCHER_LEDGER").map(PathBuf::from);
    let file = file.unwrap_or_else(|| std::env::temp_dir().join("fischers.json"));
    let ledger = Arc::new(Ledger::open(file)?);
    Ok(server(&ledger).main().await?)
}

#[cfg(test)]
mod tests;
