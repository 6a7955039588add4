//! What of ZooKeeper's tree is known here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use xpush_core::placement::Ring;
use xpush_core::ports::cluster::{Load, MAX_SETTING, Node, Setting};
use xpush_core::{NodeId, NodeName, SettingName};
use zookeeper_client::{Client, Error, MultiReadResult, Stat, WatchedEvent};

use crate::record::{BadRecord, decode_loads, decode_node};

/// What everybody watches.
pub(crate) const CLUSTER: &str = "/cluster";
pub(crate) const MEMBERS: &str = "/cluster/members";
pub(crate) const DRAINING: &str = "/cluster/draining";
pub(crate) const SETTINGS: &str = "/cluster/settings";
pub(crate) const RING: &str = "/cluster/ring";
pub(crate) const LOADS: &str = "/cluster/loads";
/// What one node at a time reads.
pub(crate) const OWN_LOADS: &str = "/loads";
pub(crate) const PLANNERS: &str = "/planners";

/// What has to be there before anything else.
pub(crate) const FOLDERS: [&str; 6] = [CLUSTER, MEMBERS, DRAINING, SETTINGS, OWN_LOADS, PLANNERS];

/// Znodes that are read in one request.
const BATCH: usize = 100;

/// What has been read, as far as it was good.
#[derive(Default)]
pub(crate) struct Tree {
    members: BTreeMap<NodeName, Node>,
    /// Up to which transaction the list of members is known; 0: not.
    members_zxid: i64,
    gathered: BTreeMap<NodeId, Load>,
    /// What is no good, by path, and the transaction that wrote it: each is counted once.
    bad: HashMap<String, i64>,
    pub(crate) ring: Option<Arc<Ring>>,
    pub(crate) draining: Arc<BTreeSet<NodeName>>,
    pub(crate) settings: Arc<BTreeMap<SettingName, Setting>>,
    /// Ascending by id.
    pub(crate) nodes: Arc<[Node]>,
    /// Of these nodes.
    pub(crate) loads: Arc<BTreeMap<NodeId, Load>>,
    /// How often something was refused.
    pub(crate) refused: u64,
}

/// What was read, and is still to be taken in: reading takes time, and a tree is under a lock.
pub(crate) enum Found {
    /// All members there are, in the state that the transaction of this number left; what is known of others is out of date.
    Members(Vec<String>, i64),
    /// The data of a member's znode; `None`: it is gone.
    Member(NodeName, Data),
    /// A znode whose name can be none of ours.
    Stranger(String),
    Draining(Vec<String>),
    Ring(Data),
    Loads(Data),
    Setting(SettingName, Data),
}

/// What a znode holds, when there is one.
type Data = Option<(Vec<u8>, Stat)>;

// === impl Tree ===

impl Tree {
    pub(crate) fn member(&self, name: &NodeName) -> Option<&Node> {
        self.members.get(name)
    }

    /// Up to which transaction the list of members is known.
    pub(crate) fn members_zxid(&self) -> i64 {
        self.members_zxid
    }

    /// All that has happened to the list of members up to this transaction is known.
    pub(crate) fn know_members(&mut self, zxid: i64) {
        self.members_zxid = zxid;
    }

    /// What is known to be there without having been read.
    pub(crate) fn put_member(&mut self, node: Node) {
        self.members_zxid = 0;
        self.members.insert(node.name.clone(), node);
        self.compose();
    }

    /// Forgets a node that has gone.
    pub(crate) fn drop_member(&mut self, name: &NodeName, id: &NodeId) {
        if self.members.get(name).is_some_and(|node| node.id == *id) {
            self.members.remove(name);
            self.compose();
        }
    }

    /// Takes in what was found, in this order. Says whether that changed anything.
    pub(crate) fn take_in(&mut self, all: Vec<Found>) -> bool {
        let before = (self.nodes.clone(), self.loads.clone(), self.draining.clone());
        let (ring, refused, settings) = (self.ring.clone(), self.refused, self.settings.clone());
        for found in all {
            match found {
                Found::Members(there, zxid) => {
                    self.members.retain(|name, _| there.iter().any(|child| child == name.as_str()));
                    self.members_zxid = zxid;
                }
                Found::Member(name, data) => {
                    let before = data.as_ref().is_some_and(|(_, stat)| stat.czxid <= self.members_zxid);
                    if !before {
                        self.members_zxid = 0;
                    }
                    self.take_in_member(name, data);
                }
                Found::Stranger(path) => self.refuse(&path, 0, &"its name is none"),
                Found::Draining(children) => self.take_in_draining(&children),
                Found::Setting(name, data) => self.take_in_setting(name, data),
                Found::Ring(None) => self.ring = None,
                Found::Ring(Some((data, stat))) => match Ring::decode(&data) {
                    Ok(ring) if self.ring.as_deref() == Some(&ring) => {}
                    Ok(ring) => self.ring = Some(Arc::new(ring)),
                    Err(why) => self.refuse(RING, stat.mzxid, &why),
                },
                Found::Loads(None) => self.gathered.clear(),
                Found::Loads(Some((data, stat))) => match decode_loads(&data) {
                    Ok(loads) => self.gathered = loads,
                    Err(why) => self.refuse(LOADS, stat.mzxid, &why),
                },
            }
        }
        self.compose();
        let after = (&self.nodes, &self.loads, &self.draining);
        (&before.0, &before.1, &before.2) != after
            || ring != self.ring
            || refused != self.refused
            || settings != self.settings
    }

    fn take_in_member(&mut self, name: NodeName, data: Data) {
        let path = format!("{MEMBERS}/{name}");
        let Some((data, stat)) = data else {
            self.members.remove(&name);
            self.bad.remove(&path);
            return;
        };
        let twin =
            |node: &Node| self.members.values().any(|other| other.id == node.id && other.name != node.name);
        match decode_node(&name, &data) {
            Ok(node) if twin(&node) => self.refuse(&path, stat.mzxid, &"its id is another node's"),
            Ok(node) => drop(self.members.insert(name, node)),
            Err(why) => self.refuse(&path, stat.mzxid, &why),
        }
    }

    fn take_in_setting(&mut self, name: SettingName, data: Data) {
        let setting = data.as_ref().map(|(value, stat)| (setting(value, stat), stat));
        match setting {
            Some((Ok(setting), _)) if self.settings.get(&name) == Some(&setting) => {}
            Some((Ok(setting), _)) => drop(Arc::make_mut(&mut self.settings).insert(name, setting)),
            Some((Err(why), stat)) => self.refuse(&format!("{SETTINGS}/{name}"), stat.mzxid, &why),
            // Somebody has deleted it, which we never do.
            None => drop(Arc::make_mut(&mut self.settings).remove(&name)),
        }
    }

    fn take_in_draining(&mut self, children: &[String]) {
        let mut draining = BTreeSet::new();
        for child in children {
            match NodeName::new(child) {
                Ok(name) => drop(draining.insert(name)),
                Err(_) => self.refuse(&format!("{DRAINING}/{child}"), 0, &"its name is none"),
            }
        }
        if *self.draining != draining {
            self.draining = Arc::new(draining);
        }
    }

    /// Keeps what was known instead.
    pub(crate) fn refuse(&mut self, path: &str, zxid: i64, why: &dyn std::fmt::Display) {
        if self.bad.insert(path.to_owned(), zxid) != Some(zxid) {
            self.refused += 1;
            tracing::error!(path, %why, "a record in ZooKeeper is no good, and is refused");
        }
    }

    fn compose(&mut self) {
        let mut nodes: Vec<&Node> = self.members.values().collect();
        nodes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        if !nodes.iter().copied().eq(self.nodes.iter()) {
            self.nodes = nodes.into_iter().cloned().collect();
        }
        let known = |id: &NodeId| self.nodes.binary_search_by(|node| node.id.cmp(id)).is_ok();
        let loads: BTreeMap<_, _> =
            self.gathered.iter().filter(|(id, _)| known(id)).map(|(id, load)| (id.clone(), *load)).collect();
        if *self.loads != loads {
            self.loads = Arc::new(loads);
        }
    }
}

/// Reads everything, but for the members when nobody has come or gone since the transaction `known`.
pub(crate) async fn read_all(client: &Client, known: i64) -> Result<Vec<Found>, Error> {
    let (children, stat) = client.get_children(MEMBERS).await?;
    let mut found = Vec::new();
    if known == 0 || stat.pzxid != known {
        let members = read_members(client, &children).await?;
        found.push(Found::Members(children, stat.pzxid));
        found.extend(members);
    }
    found.push(Found::Draining(client.list_children(DRAINING).await?));
    found.extend(read_settings(client, &client.list_children(SETTINGS).await?).await?);
    found.push(Found::Ring(read(client, RING).await?));
    found.push(Found::Loads(read(client, LOADS).await?));
    Ok(found)
}

/// Reads what these events tell of.
pub(crate) async fn read_changed(client: &Client, events: &[WatchedEvent]) -> Result<Vec<Found>, Error> {
    let (mut members, mut settings) = (BTreeSet::new(), BTreeSet::new());
    let (mut draining, mut ring, mut loads) = (false, false, false);
    for event in events {
        match event.path.as_str() {
            RING => ring = true,
            LOADS => loads = true,
            path if path.starts_with(DRAINING) => draining = true,
            path => {
                members.extend(child_of(path, MEMBERS));
                settings.extend(child_of(path, SETTINGS));
            }
        }
    }
    let [members, settings] = [members, settings].map(|children| children.into_iter().collect::<Vec<_>>());
    let mut found = read_members(client, &members).await?;
    found.extend(read_settings(client, &settings).await?);
    if draining {
        found.push(Found::Draining(client.list_children(DRAINING).await?));
    }
    if ring {
        found.push(Found::Ring(read(client, RING).await?));
    }
    if loads {
        found.push(Found::Loads(read(client, LOADS).await?));
    }
    Ok(found)
}

/// A znode right below a folder.
fn child_of(path: &str, folder: &str) -> Option<String> {
    let child = path.strip_prefix(folder)?.strip_prefix('/')?;
    (!child.contains('/')).then(|| child.to_owned())
}

/// A setting's generation is its znode's version, which ZooKeeper counts.
pub(crate) fn setting(value: &[u8], stat: &Stat) -> Result<Setting, BadRecord> {
    if value.len() > MAX_SETTING {
        return Err(BadRecord::new("it is too long"));
    }
    let generation = u64::try_from(stat.version).map_err(|_| BadRecord::new("its version is none"))? + 1;
    Ok(Setting { generation, value: Bytes::copy_from_slice(value) })
}

async fn read_settings(client: &Client, children: &[String]) -> Result<Vec<Found>, Error> {
    let data = read_each(client, SETTINGS, children).await?;
    let known =
        |(child, data): (String, Data)| SettingName::new(&child).ok().map(|name| Found::Setting(name, data));
    let strangers = children.iter().filter(|child| SettingName::new(child).is_err());
    let mut found: Vec<_> = strangers.map(|child| Found::Stranger(format!("{SETTINGS}/{child}"))).collect();
    found.extend(data.into_iter().filter_map(known));
    Ok(found)
}

async fn read_members(client: &Client, children: &[String]) -> Result<Vec<Found>, Error> {
    let data = read_each(client, MEMBERS, children).await?;
    let member =
        |(child, data): (String, Data)| NodeName::new(&child).ok().map(|name| Found::Member(name, data));
    let strangers = children.iter().filter(|child| NodeName::new(child).is_err());
    let mut found: Vec<_> = strangers.map(|child| Found::Stranger(format!("{MEMBERS}/{child}"))).collect();
    found.extend(data.into_iter().filter_map(member));
    Ok(found)
}

/// A znode's data; `None`: there is no such znode.
pub(crate) async fn read(client: &Client, path: &str) -> Result<Option<(Vec<u8>, Stat)>, Error> {
    match client.get_data(path).await {
        Ok(found) => Ok(Some(found)),
        Err(Error::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The data of many znodes in one folder.
pub(crate) async fn read_each(
    client: &Client,
    folder: &str,
    children: &[String],
) -> Result<Vec<(String, Data)>, Error> {
    let mut found = Vec::with_capacity(children.len());
    // What no path can hold was not made by us, and cannot be asked for.
    let possible = |child: &&String| child.chars().all(|c| c.is_ascii_graphic());
    let children: Vec<&String> = children.iter().filter(possible).collect();
    for batch in children.chunks(BATCH) {
        let mut reader = client.new_multi_reader();
        for child in batch {
            reader.add_get_data(&format!("{folder}/{child}"))?;
        }
        for (child, result) in batch.iter().zip(reader.commit().await?) {
            let data = match result {
                MultiReadResult::Data { data, stat } => Some((data, stat)),
                MultiReadResult::Error { err: Error::NoNode } => None,
                MultiReadResult::Error { err } => return Err(err),
                _ => None,
            };
            found.push(((*child).clone(), data));
        }
    }
    Ok(found)
}

/// Whose znode this is, as far as it can be read.
pub(crate) fn holder(name: &NodeName, data: &[u8]) -> Result<Node, BadRecord> {
    decode_node(name, data)
}
