//! Which file of a room imports which: no circles.
//!
//! An import is a path that begins with `super::`, `self::`, `crate::` or the name of a child module, in a `use` or in
//! the code. A name that a `mod.rs` re-exports counts as an import of the file it comes from, so a `mod.rs` that only
//! declares and re-exports is in no circle. Files of tests do not count.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, report, sources};

type Modules<'a> = BTreeMap<&'a [String], usize>;

/// A path in the code: its parts, and whether it stands in a `use` that passes the name on.
struct Import {
    parts: Vec<String>,
    line: usize,
    re_export: bool,
}

#[test]
fn files_of_a_room_import_each_other_in_no_circle() {
    let sources: Vec<&Source> = sources().iter().filter(|s| counts(s)).collect();
    let modules: Modules = sources.iter().enumerate().map(|(at, s)| (s.module.as_slice(), at)).collect();
    let imports: Vec<Vec<Import>> = sources.iter().map(|source| imports(source)).collect();
    let graph: Vec<BTreeMap<usize, usize>> =
        (0..sources.len()).map(|at| edges(at, &sources, &modules, &imports)).collect();
    let mut found = Vec::new();
    for mut circle in circles(&graph) {
        let shortest = shortest_circle(&graph, &mut circle);
        let step = |pair: &[usize]| {
            format!("src/{}:{} -> src/{}", sources[pair[0]].path, graph[pair[0]][&pair[1]], sources[pair[1]].path)
        };
        let steps: Vec<String> = shortest.windows(2).map(step).collect();
        found.push(format!("{} files import each other in circles, such as\n  {}", circle.len(), steps.join("\n  ")));
    }
    report(found);
}

fn counts(source: &Source) -> bool {
    !source.is_root() && !source.is_test()
}

/// The files of the same room that file `at` imports, and the line of the first such import.
fn edges(at: usize, sources: &[&Source], modules: &Modules, imports: &[Vec<Import>]) -> BTreeMap<usize, usize> {
    let mut edges = BTreeMap::new();
    for import in imports[at].iter().filter(|import| !import.re_export) {
        let target = resolve(at, &import.parts, sources, modules, imports, 0);
        if let Some(target) = target.filter(|to| *to != at && sources[*to].room == sources[at].room) {
            edges.entry(target).or_insert(import.line);
        }
    }
    edges
}

/// The file that `parts`, as written in file `from`, leads to.
fn resolve(
    from: usize,
    parts: &[String],
    sources: &[&Source],
    modules: &Modules,
    imports: &[Vec<Import>],
    depth: usize,
) -> Option<usize> {
    let mut module = sources[from].module.clone();
    let mut rest = parts;
    match parts.first()?.as_str() {
        "crate" => (module, rest) = (Vec::new(), &parts[1..]),
        "self" => rest = &parts[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                module.pop()?;
                rest = &rest[1..];
            }
        }
        child => {
            let mut path = module.clone();
            path.push(child.to_owned());
            modules.get(path.as_slice())?;
        }
    }
    while let Some(part) = rest.first() {
        let mut deeper = module.clone();
        deeper.push(part.clone());
        if !modules.contains_key(deeper.as_slice()) {
            break;
        }
        (module, rest) = (deeper, &rest[1..]);
    }
    let file = *modules.get(module.as_slice())?;
    // A name that this module only passes on leads further.
    if let Some(name) = rest.first().filter(|_| depth < 4) {
        let passes = |import: &&Import| import.re_export && import.parts.last().is_some_and(|last| last == name);
        if let Some(import) = imports[file].iter().find(passes) {
            return resolve(file, &import.parts, sources, modules, imports, depth + 1).or(Some(file));
        }
    }
    Some(file)
}

/// Every path in the code of a file before its unit tests.
fn imports(source: &Source) -> Vec<Import> {
    let lines: Vec<&str> = source.lines_before_tests().map(|(_, line)| line).collect();
    let code = lines.join("\n");
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = next_path(&code, at) {
        let line = code[..start].matches('\n').count() + 1;
        let begin = code[..start].rfind([';', '{', '}']).map_or(0, |at| at + 1);
        let statement = code[begin..start].trim();
        let in_use = statement.ends_with("use") || statement == "use";
        let re_export = in_use && statement.contains("pub");
        let mut trees = Vec::new();
        at = start + tree(&code[start..], Vec::new(), &mut trees).max(1);
        found.extend(trees.into_iter().map(|parts| Import { parts, line, re_export }));
    }
    found
}

/// Where the next path begins that leads to another file: a word followed by `::` and not preceded by it. The path in
/// `pub(in crate::room)` says who may see a name and imports nothing.
fn next_path(code: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let colons = at + code[at..].find("::")?;
        let begin = code[..colons].rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let before = code[..begin].trim_end();
        if begin >= from && begin < colons && !before.ends_with("::") && !before.ends_with("(in") {
            return Some(begin);
        }
        at = colons + 2;
    }
}

/// Reads one path or tree of a `use`; returns how many bytes it took.
fn tree(code: &str, mut prefix: Vec<String>, out: &mut Vec<Vec<String>>) -> usize {
    let mut at = 0;
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        let rest = &code[at..];
        if rest.starts_with('{') {
            at += 1;
            while !code[at..].trim_start().starts_with('}') && at < code.len() {
                let taken = tree(&code[at..], prefix.clone(), out);
                at += taken;
                let skip = code[at..].find([',', '}']).unwrap_or(code.len() - at);
                at += skip + usize::from(code[at + skip..].starts_with(','));
            }
            return (at + 1).min(code.len());
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(rest.len());
        if end > 0 {
            prefix.push(rest[..end].to_owned());
        }
        at += end;
        if !code[at..].starts_with("::") || end == 0 {
            out.push(prefix);
            return at;
        }
        at += 2;
    }
}

/// Groups of files that reach one another, by Tarjan's algorithm; single files left out.
fn circles(graph: &[BTreeMap<usize, usize>]) -> Vec<BTreeSet<usize>> {
    struct Walk<'a> {
        graph: &'a [BTreeMap<usize, usize>],
        index: Vec<Option<usize>>,
        low: Vec<usize>,
        stack: Vec<usize>,
        next: usize,
        found: Vec<BTreeSet<usize>>,
    }
    fn visit(walk: &mut Walk, at: usize) {
        walk.index[at] = Some(walk.next);
        walk.low[at] = walk.next;
        walk.next += 1;
        walk.stack.push(at);
        for &to in walk.graph[at].keys() {
            match walk.index[to] {
                None => {
                    visit(walk, to);
                    walk.low[at] = walk.low[at].min(walk.low[to]);
                }
                Some(index) if walk.stack.contains(&to) => walk.low[at] = walk.low[at].min(index),
                Some(_) => {}
            }
        }
        if Some(walk.low[at]) == walk.index[at] {
            let from = walk.stack.iter().position(|on| *on == at).expect("it is on the stack");
            let group: BTreeSet<usize> = walk.stack.split_off(from).into_iter().collect();
            if group.len() > 1 {
                walk.found.push(group);
            }
        }
    }
    let n = graph.len();
    let mut walk = Walk { graph, index: vec![None; n], low: vec![0; n], stack: Vec::new(), next: 0, found: Vec::new() };
    for at in 0..n {
        if walk.index[at].is_none() {
            visit(&mut walk, at);
        }
    }
    walk.found
}

/// The shortest way from a file of the group back to itself.
fn shortest_circle(graph: &[BTreeMap<usize, usize>], group: &mut BTreeSet<usize>) -> Vec<usize> {
    let from_each = group.iter().filter_map(|&start| {
        let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
        let mut level = vec![start];
        while !level.is_empty() && !came_from.contains_key(&start) {
            let mut next = Vec::new();
            for at in level {
                for &to in graph[at].keys().filter(|to| group.contains(to)) {
                    if let std::collections::btree_map::Entry::Vacant(entry) = came_from.entry(to) {
                        entry.insert(at);
                        next.push(to);
                    }
                }
            }
            level = next;
        }
        let mut way = vec![start];
        let mut at = *came_from.get(&start)?;
        while at != start {
            way.push(at);
            at = came_from[&at];
        }
        way.push(start);
        way.reverse();
        Some(way)
    });
    from_each.min_by_key(Vec::len).expect("a group has a circle")
}
