//! One repository of a round: marks its manifests from its tags, sweeps them, and then the
//! markers that let its blobs be seen.
//!
//! A manifest is needed where a tag means it, where it came within the grace, and where what is
//! needed names it: an index its manifests, a manifest its subject, a subject what refers to it.
//!
//! Manifests go before blobs, and what names something goes before that. Whatever is named by a
//! manifest that is there after the sweep – condemned, or brought back to life meanwhile – is
//! held: a manifest that can be read never lacks what was pushed with it.

use std::collections::{HashMap, HashSet};

use deploy_spec::{Digest, Outline, RepositoryName};
use jiff::Timestamp;

use super::{Event, Judged, Kind, Need, Outcome, Round, all_of};
use crate::store::{
    error::StoreError,
    keys,
    manifests::{ManifestRecord, manifest_of},
    objects::Entry,
    state::{Collectable as _, Found, Standing, State},
    tags::TagHeader,
};

/// A repository whose manifests are swept.
struct Swept {
    name: RepositoryName,
    /// Blobs that a needed manifest names.
    needed: HashSet<u64>,
    /// Blobs that some manifest names.
    held: HashSet<u64>,
    /// Some manifest cannot be read: it may need anything.
    blind: bool,
}

/// A manifest of the repository.
struct Node {
    digest: Digest,
    size: u64,
    created: Timestamp,
    standing: Standing,
    blobs: Vec<u64>,
    /// Manifests that go only after this one.
    names: Vec<Digest>,
    subject: Option<Digest>,
    need: Need,
    outcome: Outcome,
}

impl Round<'_> {
    /// Sweeps what is in repositories.
    pub(super) async fn all_repositories(&mut self) -> Result<(), StoreError> {
        let mut listing = self.listing(&keys::repositories());
        let mut current: Option<Swept> = None;
        while let Some(batch) = self.next_batch(&mut listing).await? {
            let mut markers = Vec::new();
            for entry in batch {
                let Some(owner) = keys::owner_of(&entry.key) else {
                    continue;
                };
                if current.as_ref().is_none_or(|swept| swept.name != owner) {
                    self.sweep_members(&current, std::mem::take(&mut markers))
                        .await?;
                    current = Some(self.sweep_manifests(owner).await?);
                }
                if let Some(digest) = keys::member_of(&entry.key) {
                    markers.push((digest, entry));
                }
            }
            self.sweep_members(&current, markers).await?;
        }
        Ok(())
    }

    async fn sweep_members(
        &mut self,
        swept: &Option<Swept>,
        markers: Vec<(Digest, Entry)>,
    ) -> Result<(), StoreError> {
        let Some(swept) = swept else {
            return Ok(());
        };
        let mut hashes = Vec::new();
        let mut steps = Vec::new();
        for (digest, entry) in &markers {
            let hash = self.hash(digest);
            let need = match () {
                () if swept.blind || swept.needed.contains(&hash) => Need::Needed,
                () if swept.held.contains(&hash) => Need::Held,
                () => Need::Free,
            };
            hashes.push(hash);
            steps.push(self.step_marker(Kind::Members, entry, need));
        }
        let outcomes = all_of(steps).await?;
        for (hash, outcome) in hashes.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Lives => self.needed.insert(hash),
                Outcome::Condemned => self.held.insert(hash),
                Outcome::Gone => false,
            };
        }
        Ok(())
    }

    /// Sweeps the manifests of a repository, and the markers of referrers. A manifest whose
    /// marker or whose entry in the catalog is missing gets it.
    async fn sweep_manifests(&mut self, name: RepositoryName) -> Result<Swept, StoreError> {
        self.progress.add_repository();
        let mut nodes = Vec::new();
        let mut blind = self.blind.contains(&self.hash(&name));
        let mut listing = self.listing(&keys::manifests(&name));
        while let Some(batch) = self.next_batch(&mut listing).await? {
            let digests = batch.iter().filter_map(|entry| keys::digest_of(&entry.key));
            let reads = digests.map(|digest| self.read_node(&name, digest));
            let read = all_of(reads.collect()).await?;
            blind |= read.iter().any(|read| matches!(read, Read::Unreadable));
            nodes.extend(read.into_iter().filter_map(Read::node));
        }
        let tagged = self.tagged(&name).await?;
        let known: HashSet<&Digest> = nodes.iter().map(|node| &node.digest).collect();
        // Pushed since we listed the manifests.
        let new: Vec<Digest> = tagged.difference_in(&known);
        let reads = new.into_iter().map(|digest| self.read_node(&name, digest));
        let read = all_of(reads.collect()).await?;
        blind |= read.iter().any(|read| matches!(read, Read::Unreadable));
        nodes.extend(read.into_iter().filter_map(Read::node));

        let mut graph = Graph::new(nodes);
        graph.mark(|node| {
            blind
                || tagged.0.contains(&node.digest)
                || self.is_young(node.standing.since.unwrap_or(node.created))
                    && node.standing.state == State::Live
        });
        self.sweep_graph(&name, &mut graph).await?;

        let mut swept = Swept {
            name,
            needed: HashSet::new(),
            held: HashSet::new(),
            blind,
        };
        let mut present = HashSet::new();
        let mut refer = HashMap::new();
        for node in &graph.nodes {
            match (node.need, node.outcome) {
                (_, Outcome::Gone) => continue,
                (Need::Needed, _) | (_, Outcome::Lives) => swept.needed.extend(&node.blobs),
                (_, Outcome::Condemned) => swept.held.extend(&node.blobs),
            }
            let hash = self.hash(&node.digest);
            present.insert(hash);
            if let Some(subject) = &node.subject {
                refer.insert(hash, (subject, &node.digest));
            }
        }
        self.sweep_referrers(&swept, &present, &mut refer).await?;
        // What a deletion has left out that came late.
        for (subject, digest) in refer.into_values().filter(|_| !self.is_dry()) {
            self.pace().change().await?;
            let marker = keys::referrer(&swept.name, subject, digest);
            self.store.set_marker(&marker).await?;
        }
        if !present.is_empty() || blind {
            let hash = self.hash(&swept.name);
            self.repositories.insert(hash);
            self.pace().read().await?;
            // What a crash or a deletion at the same time has left out.
            if !self.is_dry() && !self.store.is_repository(&swept.name).await? {
                self.store.enter_repository(&swept.name).await?;
            }
        }
        Ok(swept)
    }

    /// Returns what the tags of a repository mean.
    async fn tagged(&self, name: &RepositoryName) -> Result<Tagged, StoreError> {
        let mut tagged = Tagged::default();
        let mut listing = self.listing(&keys::tags(name));
        while let Some(batch) = self.next_batch(&mut listing).await? {
            let reads = batch.iter().map(|entry| self.read_tag(name, entry));
            let read = all_of(reads.collect()).await?;
            tagged.0.extend(read.into_iter().flatten());
        }
        Ok(tagged)
    }

    async fn read_tag(
        &self,
        name: &RepositoryName,
        entry: &Entry,
    ) -> Result<Option<Digest>, StoreError> {
        let Some(tag) = keys::tag_of(&entry.key) else {
            return Ok(None);
        };
        self.progress.count(Kind::Tags, Event::Found, 0);
        self.pace().read().await?;
        let removed = (name.clone(), tag);
        match self.store.find::<TagHeader>(&entry.key).await? {
            Found::Object(seen) if seen.header.standing().state == State::Doomed => {
                // By a retention that died.
                let judged = Judged {
                    need: Need::Free,
                    created: entry.modified,
                    size: 0,
                    data: None,
                };
                self.step(Kind::Tags, &entry.key, seen, judged).await?;
                Ok(None)
            }
            Found::Object(seen) if !self.collection.without_tags.contains(&removed) => {
                Ok(Some(seen.header.digest().clone()))
            }
            Found::Object(_) | Found::Nothing => Ok(None),
            Found::Damaged { .. } => {
                self.progress.add_unreadable();
                Ok(None)
            }
        }
    }

    async fn read_node(&self, name: &RepositoryName, digest: Digest) -> Result<Read, StoreError> {
        self.pace().read().await?;
        let key = keys::manifest(name, &digest);
        let seen = match self.store.find::<ManifestRecord>(&key).await? {
            Found::Nothing => return Ok(Read::Nothing),
            Found::Object(seen) => seen,
            Found::Damaged { .. } => {
                self.progress.add_unreadable();
                return Ok(Read::Unreadable);
            }
        };
        let (standing, created) = (seen.header.standing(), seen.header.created);
        self.progress
            .count(Kind::Manifests, Event::Found, seen.header.size);
        let mut node = Node {
            size: seen.header.size,
            created,
            standing,
            blobs: Vec::new(),
            names: Vec::new(),
            subject: None,
            need: Need::Free,
            outcome: Outcome::Lives,
            digest,
        };
        if standing.state == State::Doomed {
            node.outcome = Outcome::Gone;
            return Ok(Read::Node(node));
        }
        let outline = manifest_of(&key, &node.digest, seen)
            .and_then(|manifest| Ok(Outline::parse(Some(&manifest.media_type), &manifest.bytes)?));
        let Ok(outline) = outline else {
            self.progress.add_unreadable();
            return Ok(Read::Unreadable);
        };
        node.blobs = (outline.config.iter().chain(&outline.layers))
            .map(|blob| self.hash(&blob.digest))
            .collect();
        node.names = outline
            .manifests
            .into_iter()
            .map(|child| child.digest)
            .collect();
        node.subject = outline.subject.map(|subject| subject.digest);
        Ok(Read::Node(node))
    }

    /// Does what has to be done about the manifests of a marked graph.
    async fn sweep_graph(
        &self,
        name: &RepositoryName,
        graph: &mut Graph,
    ) -> Result<(), StoreError> {
        let may_go = |node: &Node| match node.standing.state {
            State::Live => false,
            State::Condemned => {
                node.need == Need::Free
                    && !self.is_young(node.standing.since.unwrap_or(node.created))
            }
            State::Doomed => true,
        };
        let mut waiting: HashSet<usize> = HashSet::new();
        let mut others = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            match may_go(node) {
                true => {
                    waiting.insert(index);
                }
                false => others.push(index),
            }
        }
        self.step_nodes(name, graph, &others).await?;
        let present = |graph: &Graph, indices: &[usize]| -> Vec<usize> {
            let there = |index: &&usize| graph.nodes[**index].outcome != Outcome::Gone;
            indices.iter().filter(there).copied().collect()
        };
        graph.hold(&present(graph, &others), &mut waiting);
        while !waiting.is_empty() {
            let named: HashSet<usize> = waiting
                .iter()
                .flat_map(|index| graph.below(*index))
                .collect();
            let mut next: Vec<usize> = waiting.difference(&named).copied().collect();
            if next.is_empty() {
                // An index that has its own subject in it: any order is as good.
                next.extend(&waiting);
            }
            for index in &next {
                waiting.remove(index);
            }
            self.step_nodes(name, graph, &next).await?;
            graph.hold(&present(graph, &next), &mut waiting);
        }
        Ok(())
    }

    async fn step_nodes(
        &self,
        name: &RepositoryName,
        graph: &mut Graph,
        indices: &[usize],
    ) -> Result<(), StoreError> {
        let steps = indices
            .iter()
            .map(|index| self.step_node(name, &graph.nodes[*index]));
        let outcomes = all_of(steps.collect()).await?;
        for (index, outcome) in indices.iter().zip(outcomes) {
            graph.nodes[*index].outcome = outcome;
        }
        Ok(())
    }

    async fn step_node(&self, name: &RepositoryName, node: &Node) -> Result<Outcome, StoreError> {
        let since = node.standing.since.unwrap_or(node.created);
        match node.standing.state {
            State::Live if node.need == Need::Needed || self.is_young(since) => {
                return Ok(Outcome::Lives);
            }
            State::Condemned if node.need == Need::Held => return Ok(Outcome::Condemned),
            _ => {}
        }
        self.pace().read().await?;
        let key = keys::manifest(name, &node.digest);
        match self.store.find::<ManifestRecord>(&key).await? {
            Found::Nothing => Ok(Outcome::Gone),
            Found::Damaged { .. } => Ok(Outcome::Lives),
            Found::Object(seen) => {
                let judged = Judged {
                    need: node.need,
                    created: node.created,
                    size: node.size,
                    data: None,
                };
                self.step(Kind::Manifests, &key, seen, judged).await
            }
        }
    }

    async fn sweep_referrers(
        &self,
        swept: &Swept,
        present: &HashSet<u64>,
        unlisted: &mut HashMap<u64, (&Digest, &Digest)>,
    ) -> Result<(), StoreError> {
        let mut listing = self.listing(&keys::all_referrers(&swept.name));
        while let Some(batch) = self.next_batch(&mut listing).await? {
            let mut steps = Vec::new();
            for entry in &batch {
                let Some((_, digest)) = keys::referrer_of(&entry.key) else {
                    continue;
                };
                let hash = self.hash(&digest);
                unlisted.remove(&hash);
                let need = match swept.blind || present.contains(&hash) {
                    true => Need::Needed,
                    false => Need::Free,
                };
                steps.push(self.step_marker(Kind::Referrers, entry, need));
            }
            all_of(steps).await?;
        }
        Ok(())
    }
}

/// What tags mean.
#[derive(Default)]
struct Tagged(HashSet<Digest>);

impl Tagged {
    /// Returns what is not among the known.
    fn difference_in(&self, known: &HashSet<&Digest>) -> Vec<Digest> {
        let unknown = |digest: &&Digest| !known.contains(digest);
        self.0.iter().filter(unknown).cloned().collect()
    }
}

/// What was found where a manifest was listed.
enum Read {
    Nothing,
    Unreadable,
    Node(Node),
}

impl Read {
    fn node(self) -> Option<Node> {
        match self {
            Self::Node(node) => Some(node),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

/// The manifests of a repository, and what names what.
struct Graph {
    nodes: Vec<Node>,
    places: HashMap<Digest, usize>,
    /// What refers to a manifest.
    referrers: HashMap<usize, Vec<usize>>,
}

impl Graph {
    fn new(nodes: Vec<Node>) -> Self {
        let places: HashMap<Digest, usize> = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.digest.clone(), index))
            .collect();
        let mut referrers: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            if let Some(subject) = node.subject.as_ref().and_then(|digest| places.get(digest)) {
                referrers.entry(*subject).or_default().push(index);
            }
        }
        Self {
            nodes,
            places,
            referrers,
        }
    }

    /// Returns the manifests that go only after this one: those it names, and those that refer
    /// to it.
    fn below(&self, index: usize) -> Vec<usize> {
        let named = self.nodes[index]
            .names
            .iter()
            .filter_map(|digest| self.places.get(digest));
        named
            .chain(self.referrers.get(&index).into_iter().flatten())
            .copied()
            .collect()
    }

    /// Marks as needed what `is_root`, and all that those need.
    fn mark(&mut self, is_root: impl Fn(&Node) -> bool) {
        let mut stack: Vec<usize> = (0..self.nodes.len())
            .filter(|index| is_root(&self.nodes[*index]))
            .collect();
        while let Some(index) = stack.pop() {
            let node = &mut self.nodes[index];
            if node.need == Need::Needed || node.outcome == Outcome::Gone {
                continue;
            }
            node.need = Need::Needed;
            let subject = node.subject.as_ref();
            stack.extend(subject.and_then(|subject| self.places.get(subject)));
            stack.extend(self.below(index));
        }
    }

    /// Holds what is below these, directly or not, and takes it out of `waiting`.
    fn hold(&mut self, present: &[usize], waiting: &mut HashSet<usize>) {
        let mut seen: HashSet<usize> = HashSet::new();
        let mut stack: Vec<usize> = present
            .iter()
            .flat_map(|index| self.below(*index))
            .collect();
        while let Some(index) = stack.pop() {
            if !seen.insert(index) || self.nodes[index].outcome == Outcome::Gone {
                continue;
            }
            if waiting.remove(&index) {
                let node = &mut self.nodes[index];
                node.need = Need::Held;
                node.outcome = Outcome::Condemned;
            }
            stack.extend(self.below(index));
        }
    }
}
