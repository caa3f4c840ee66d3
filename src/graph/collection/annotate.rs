//! What layers are annotated with, by key.
//!
//! Source: `dask/_expr.py`, `__dask_annotations__` of `HLGExpr` and `_HLGExprSequence`.

use std::sync::Arc;

use crate::base::{Annotations, Key, SeededMap, Text, Value};
use crate::graph::annotations;
use crate::graph::error::Stop;
use crate::graph::known::Reader;
use crate::pickle::{Kind, NodeId};

use super::roots::Layer;
use super::work::GraphWork;

/// How many of the latest maps are looked at for an equal one.
const LATEST: usize = 8;

/// Names and values.
type Fields = Vec<(Text, Value)>;

/// Annotations of keys. Of equal maps there is one.
pub(super) struct LayerNotes {
    /// In a sequence, keys that a layer was given no value for get none.
    is_sequence: bool,
    by_key: SeededMap<u32, Fields>,
    table: Vec<(Fields, Arc<Annotations>)>,
}

/// A value of one kind of annotation for the keys of a layer.
enum Note {
    Same(Value),
    ByKey(SeededMap<Key, Value>),
}

impl LayerNotes {
    pub(super) fn new(is_sequence: bool) -> Self {
        Self { is_sequence, by_key: SeededMap::default(), table: Vec::new() }
    }

    /// Takes up the annotations of layers, whose keys are known by number.
    pub(super) fn add(&mut self, work: &GraphWork<'_>, layers: &[Layer]) -> Result<(), Stop> {
        for layer in layers {
            let Some(annotations) = layer.annotations else { continue };
            let entries = work.nodes.entries(annotations).ok_or("annotations that are no dict")?;
            for (name, value) in entries {
                let name: Text = work.nodes.text(name).ok_or("an annotation whose name is no text")?.into();
                let note = self.note(work, value)?;
                for &(key, _) in &layer.mapping {
                    let key = Reader::new(&work.nodes).key(key)?;
                    self.put(work, &key, &name, &note);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, work: &GraphWork<'_>, key: &Key, name: &Text, note: &Note) {
        let value = match note {
            Note::Same(value) => Some(value),
            Note::ByKey(values) => values.get(key),
        };
        let (Some(value), Some(number)) = (value, work.index.find(key)) else { return };
        let of_key = self.by_key.entry(number).or_default();
        match of_key.iter_mut().find(|(other, _)| other == name) {
            Some((_, place)) => place.clone_from(value),
            None => of_key.push((name.clone(), value.clone())),
        }
    }

    /// A value for all keys; or what `delayed` makes of annotations of its inputs: a partial of a look-up.
    fn note(&self, work: &GraphWork<'_>, id: NodeId) -> Result<Note, Stop> {
        if !matches!(work.nodes.kind(id), Kind::Reduce | Kind::NewObj | Kind::NewObjEx | Kind::Global) {
            return Ok(Note::Same(work.nodes.value(id)?));
        }
        let values = self.look_up(work, id).ok_or("an annotation that is called")?;
        let mut by_key = SeededMap::default();
        for (key, value) in values {
            by_key.insert(Reader::new(&work.nodes).key(key)?, work.nodes.value(value)?);
        }
        Ok(Note::ByKey(by_key))
    }

    /// The dict in `partial(_get_partial, dct=.., default=_AnnotationsTombstone())`.
    fn look_up(&self, work: &GraphWork<'_>, id: NodeId) -> Option<Vec<(NodeId, NodeId)>> {
        let nodes = &work.nodes;
        let (partial, _) = nodes.reduce(id).filter(|_| self.is_sequence)?;
        let &[function, args, named, _] = nodes.tuple(nodes.state(id)?)? else { return None };
        let is_look_up = nodes.global(partial) == Some(("functools", "partial"))
            && nodes.global(function) == Some(("dask.delayed", "_get_partial"))
            && nodes.tuple(args)?.is_empty();
        let named = nodes.entries(named).filter(|_| is_look_up)?;
        let field = |name: &str| named.iter().find(|(key, _)| nodes.text(*key) == Some(name)).map(|(_, value)| *value);
        let (class, _) = nodes.new_obj(field("default")?)?;
        if named.len() != 2 || nodes.global(class) != Some(("dask._expr", "_AnnotationsTombstone")) {
            return None;
        }
        nodes.entries(field("dct")?)
    }

    /// The annotations of a task: its own before those of the whole graph.
    pub(super) fn of(
        &mut self,
        number: u32,
        everywhere: Option<&Arc<Annotations>>,
    ) -> Result<Option<Arc<Annotations>>, Stop> {
        let own = self.by_key.remove(&number).unwrap_or_default();
        let own: Vec<_> = own.into_iter().filter(|(_, value)| !value.is_nil()).collect();
        if own.is_empty() {
            return Ok(everywhere.cloned());
        }
        if let Some((_, known)) = self.table.iter().rev().take(LATEST).find(|(other, _)| *other == own) {
            return Ok(Some(known.clone()));
        }
        let mut fields = everywhere.and_then(|all| all.wire.fields()).unwrap_or_default().to_vec();
        for (name, value) in &own {
            match fields.iter_mut().find(|(other, _)| other.as_str() == Some(&**name)) {
                Some((_, place)) => place.clone_from(value),
                None => fields.push((Value::Str(name.clone()), value.clone())),
            }
        }
        let made = Arc::new(annotations::interpret(Value::Map(fields))?);
        self.table.push((own, made.clone()));
        Ok(Some(made))
    }
}
