//! Whether workers can load what a graph refers to, without loading it here.
//!
//! A task that a worker cannot unpickle costs that worker its stream, and then the next worker its own. Stock loads
//! every graph on its scheduler and refuses it there. We read graphs without Python, so we ask Python once about each
//! *name* that pickles refer to; a graph of known names costs a look-up per name. What can fail although its names are
//! known (classes with a loading of their own, calls of users' functions) is loaded in Python each time.

use bytes::Bytes;

use crate::base::{SeededMap, Text};
use crate::pickle::{Kind, NodeId, Nodes};

/// What Python says about a name that it could resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A class that does something of its own when it is loaded, which can fail for one object and not for another.
    LoadsItself,
    /// A class whose objects stand for the results of tasks, as futures do: only Python can tell of which.
    StandsForResult,
    /// Safe to refer to. What it does when a pickle calls it is not known.
    Resolves,
    /// Safe to refer to and to call, as pickles of well-known libraries do.
    Rebuilds,
}

/// What an object is to the tuples that Dask takes for tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing special: an argument like any other.
    Plain,
    /// It can be called: a tuple that begins with it is a task.
    Callable,
    NamedTuple,
    /// Dask looks into it, or compares it with keys, in ways that only Python knows.
    Special,
}

/// The role of an object, and that of what it makes, where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    pub own: Role,
    /// What instances of a class are, or what a function returns.
    pub makes: Option<Role>,
}

/// What Python was asked.
#[derive(Clone, Debug, Default)]
pub struct Vouched {
    /// Names by module.
    names: SeededMap<Text, SeededMap<Text, (Verdict, Roles)>>,
    /// Objects without a name, by their pickles.
    objects: SeededMap<Bytes, Roles>,
    /// The setting `optimization.fuse.delayed`.
    fuses_delayed: Option<bool>,
}

/// A module and a name in it.
pub type GlobalName = (Text, Text);

/// What Python has to say before a graph can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphQuestion {
    pub names: Vec<GlobalName>,
    /// Pickles of objects whose roles are not known.
    pub objects: Vec<Bytes>,
    /// Whether some names only mean something once the graph has been loaded.
    pub load: bool,
}

/// Objects that are remembered; past it all are forgotten and asked for again.
const OBJECTS_MAX: usize = 50_000;

/// Calls of this function make a class that the pickle itself defines.
const CLASS_MAKER: &str = "_make_skeleton_class";
/// This one gives a type of the interpreter by its name.
const BUILTIN_TYPE: &str = "_builtin_type";
/// This one imports a module by its name.
const IMPORTER: &str = "subimport";
/// What a class that a pickle defines may define for its own loading.
const OWN_LOADING: [&str; 3] = ["__setstate__", "__new__", "__setattr__"];

impl Vouched {
    /// Remembers what Python said of names.
    pub fn add(&mut self, said: impl IntoIterator<Item = (GlobalName, (Verdict, Roles))>) {
        for ((module, name), known) in said {
            self.names.entry(module).or_default().insert(name, known);
        }
    }

    /// Remembers what Python said of objects.
    pub fn add_objects(&mut self, said: impl IntoIterator<Item = (Bytes, Roles)>) {
        if self.objects.len() > OBJECTS_MAX {
            self.objects.clear();
        }
        self.objects.extend(said);
    }

    /// Remembers the setting `optimization.fuse.delayed`.
    pub const fn set_fuses_delayed(&mut self, fuses: bool) {
        self.fuses_delayed = Some(fuses);
    }

    pub(super) const fn fuses_delayed(&self) -> Option<bool> {
        self.fuses_delayed
    }

    /// The roles of what a name stands for.
    pub(super) fn roles(&self, module: &str, name: &str) -> Option<Roles> {
        Some(self.names.get(module)?.get(name)?.1)
    }

    /// The roles of an object, by its pickle.
    pub(super) fn object(&self, pickle: &[u8]) -> Option<Roles> {
        self.objects.get(pickle).copied()
    }

    fn get(&self, module: &str, name: &str) -> Option<Verdict> {
        Some(self.names.get(module)?.get(name)?.0)
    }
}

/// Must Python load this pickle before workers do? If so: the names in it that Python was not asked about yet.
pub(super) fn must_load(nodes: &Nodes, vouched: &Vouched) -> Option<Vec<GlobalName>> {
    let mut look = NameCheck { nodes, vouched, unknown: Vec::new(), must_load: false };
    for id in nodes.ids() {
        match nodes.kind(id) {
            Kind::Global => look.global(id),
            Kind::Reduce => look.call(id),
            _ => {}
        }
    }
    (look.must_load || !look.unknown.is_empty()).then_some(look.unknown)
}

/// May something in this pickle stand for the result of a task without being one of Dask's own references?
pub(super) fn has_foreign_references(nodes: &Nodes, vouched: &Vouched) -> bool {
    let stands_for_result =
        |id| nodes.global(id).is_some_and(|(module, name)| vouched.get(module, name) == Some(Verdict::StandsForResult));
    nodes.ids().any(|id| nodes.kind(id) == Kind::Global && stands_for_result(id))
}

struct NameCheck<'a> {
    nodes: &'a Nodes,
    vouched: &'a Vouched,
    unknown: Vec<GlobalName>,
    must_load: bool,
}

impl NameCheck<'_> {
    fn global(&mut self, id: NodeId) {
        let Some((module, name)) = self.nodes.global(id) else {
            self.must_load = true;
            return;
        };
        let verdict = self.verdict(module, name);
        self.must_load |= verdict == Some(Verdict::LoadsItself) || (name == CLASS_MAKER && self.defines_own_loading());
    }

    /// What is known of a name; an unknown one is noted, to be asked about.
    fn verdict(&mut self, module: &str, name: &str) -> Option<Verdict> {
        let verdict = self.vouched.get(module, name);
        if verdict.is_none() && !self.unknown.iter().any(|(there, same)| &**there == module && &**same == name) {
            self.unknown.push((module.into(), name.into()));
        }
        verdict
    }

    fn call(&mut self, id: NodeId) {
        let Some((function, args)) = self.nodes.reduce(id) else { return };
        let first = self.nodes.tuple(args).and_then(|args| args.first()).and_then(|&text| self.nodes.text(text));
        match self.nodes.global(function) {
            Some((_, IMPORTER)) => {
                self.verdict(first.unwrap_or_default(), "");
            }
            Some((module, name)) => {
                self.must_load |= self.vouched.get(module, name) == Some(Verdict::Resolves);
            }
            None => self.call_of_type(function, args),
        }
    }

    /// Code objects are made by calling `_builtin_type("CodeType")(...)`; how many arguments that takes depends on the
    /// version of Python, so each number of them is a name of its own.
    fn call_of_type(&mut self, function: NodeId, args: NodeId) {
        let made = self
            .nodes
            .reduce(function)
            .filter(|&(maker, _)| self.nodes.global(maker).is_some_and(|(_, name)| name == BUILTIN_TYPE));
        let kind = made.and_then(|(_, of)| self.nodes.tuple(of)).and_then(|of| of.first());
        match (kind.and_then(|&text| self.nodes.text(text)), self.nodes.tuple(args)) {
            (Some(kind), Some(args)) => {
                let name = format!("{kind}#{}", args.len());
                self.verdict("types", &name);
            }
            _ => self.must_load = true,
        }
    }

    fn defines_own_loading(&self) -> bool {
        let is_own = |id| self.nodes.text(id).is_some_and(|text| OWN_LOADING.contains(&text));
        self.nodes.ids().any(is_own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pickle;

    fn names(pickle: &'static [u8], vouched: &Vouched) -> Option<Vec<String>> {
        let nodes = pickle::read(&pickle.into(), 0).expect("a sound pickle");
        let names = must_load(&nodes, vouched)?;
        Some(names.iter().map(|(module, name)| format!("{module}.{name}")).collect())
    }

    const fn known(verdict: Verdict) -> (Verdict, Roles) {
        (verdict, Roles { own: Role::Callable, makes: None })
    }

    /// `(mod.f, mod.C(1))`, protocol 4.
    const PAIR: &[u8] = b"\x80\x04\x8c\x03mod\x8c\x01f\x93\x8c\x03mod\x8c\x01C\x93K\x01\x85R\x86.";

    #[test]
    fn a_graph_of_known_names_is_not_loaded_and_plain_data_never() {
        let mut vouched = Vouched::default();
        assert_eq!(names(b"\x80\x04\x8c\x01aK\x01\x86.", &vouched), None);
        assert_eq!(names(PAIR, &vouched), Some(vec!["mod.f".to_owned(), "mod.C".to_owned()]));
        let name = |name: &str| ("mod".into(), name.into());
        vouched.add([(name("f"), known(Verdict::Resolves)), (name("C"), known(Verdict::Rebuilds))]);
        assert_eq!(names(PAIR, &vouched), None);
    }

    #[test]
    fn what_may_fail_with_known_names_is_loaded_each_time() {
        let name = |name: &str| ("mod".into(), name.into());
        for verdict in [Verdict::Resolves, Verdict::LoadsItself] {
            let mut vouched = Vouched::default();
            vouched.add([(name("f"), known(Verdict::Resolves)), (name("C"), known(verdict))]);
            assert_eq!(names(PAIR, &vouched), Some(Vec::new()));
        }
    }
}
