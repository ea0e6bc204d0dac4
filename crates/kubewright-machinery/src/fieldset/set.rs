//! Sets of fields and their algebra (KEP-555).
//!
//! A set is a tree: its members, and children that lead to deeper members. Being a child says nothing about
//! being a member. Members and children are sorted vectors, so that every operation is one pass over both
//! sides; elements are shared, never copied. Nothing here looks at an object or at a schema.

use std::cmp::Ordering;

use super::path::{Path, PathElement};

/// A set of fields. No child is empty, so that equality is the derived one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    members: Vec<PathElement>,
    children: Vec<(PathElement, Set)>,
}

/// One step of a pattern: an element, or any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// Every element.
    Any,
    /// This element.
    Element(PathElement),
}

impl Matcher {
    fn matches(&self, element: &PathElement) -> bool {
        match self {
            Self::Any => true,
            Self::Element(mine) => mine == element,
        }
    }
}

/// The next element of two sorted sequences: from the left, from the right, or both.
enum Step<L, R> {
    Left(L),
    Right(R),
    Both(L, R),
}

/// Zips two slices sorted by the same key.
fn zip<'a, L, R>(
    left: &'a [L],
    right: &'a [R],
    key_left: impl Fn(&L) -> &PathElement,
    key_right: impl Fn(&R) -> &PathElement,
    mut visit: impl FnMut(Step<&'a L, &'a R>),
) {
    let (mut i, mut j) = (0, 0);
    loop {
        match (left.get(i), right.get(j)) {
            (Some(l), Some(r)) => match key_left(l).cmp(key_right(r)) {
                Ordering::Less => {
                    visit(Step::Left(l));
                    i += 1;
                }
                Ordering::Greater => {
                    visit(Step::Right(r));
                    j += 1;
                }
                Ordering::Equal => {
                    visit(Step::Both(l, r));
                    i += 1;
                    j += 1;
                }
            },
            (Some(l), None) => {
                visit(Step::Left(l));
                i += 1;
            }
            (None, Some(r)) => {
                visit(Step::Right(r));
                j += 1;
            }
            (None, None) => return,
        }
    }
}

fn itself(element: &PathElement) -> &PathElement {
    element
}

fn first(child: &(PathElement, Set)) -> &PathElement {
    &child.0
}

impl Set {
    pub(super) const EMPTY: Self = Self { members: Vec::new(), children: Vec::new() };

    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A set of paths; their parents are not members.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut set = Self::new();
        for path in paths {
            set.insert(&path.0);
        }
        set
    }

    /// A set from parts that may be unsorted and may repeat. Empty children are left out.
    pub(super) fn from_parts(mut members: Vec<PathElement>, mut children: Vec<(PathElement, Set)>) -> Self {
        if !members.is_sorted() {
            members.sort();
        }
        members.dedup();
        children.retain(|child| !child.1.is_empty());
        if !children.is_sorted_by(|a, b| a.0 < b.0) {
            children.sort_by(|a, b| a.0.cmp(&b.0));
            children.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    earlier.1 = earlier.1.union(&later.1);
                }
                same
            });
        }
        Self { members, children }
    }

    /// Adds a path; its parents are not added. The empty path (the whole object) is nobody's and is not added.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((head, tail)) = path.split_first() else { return };
        if tail.is_empty() {
            if let Err(at) = self.members.binary_search(head) {
                self.members.insert(at, head.clone());
            }
            return;
        }
        let at = match self.children.binary_search_by(|child| child.0.cmp(head)) {
            Ok(at) => at,
            Err(at) => {
                self.children.insert(at, (head.clone(), Self::new()));
                at
            }
        };
        self.children[at].1.insert(tail);
    }

    /// Members of this level, sorted.
    pub fn members(&self) -> &[PathElement] {
        &self.members
    }

    /// Children of this level, sorted; none is empty.
    pub fn children(&self) -> &[(PathElement, Set)] {
        &self.children
    }

    /// What the set says below `element`.
    pub fn child(&self, element: &PathElement) -> Option<&Set> {
        let at = self.children.binary_search_by(|child| child.0.cmp(element)).ok()?;
        Some(&self.children[at].1)
    }

    /// Whether `element` is a member of this level.
    pub fn has_member(&self, element: &PathElement) -> bool {
        self.members.binary_search(element).is_ok()
    }

    /// Whether the path is a member.
    pub fn has(&self, path: &[PathElement]) -> bool {
        match path.split_first() {
            None => false,
            Some((head, [])) => self.has_member(head),
            Some((head, tail)) => self.child(head).is_some_and(|child| child.has(tail)),
        }
    }

    /// Whether there are no members, at any depth.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// The number of members, at every depth.
    pub fn len(&self) -> usize {
        self.members.len() + self.children.iter().map(|child| child.1.len()).sum::<usize>()
    }

    /// Members of either.
    pub fn union(&self, other: &Self) -> Self {
        let mut out = Self::default();
        out.members.reserve(self.members.len().max(other.members.len()));
        zip(&self.members, &other.members, itself, itself, |step| match step {
            Step::Left(element) | Step::Right(element) | Step::Both(element, _) => {
                out.members.push(element.clone())
            }
        });
        zip(&self.children, &other.children, first, first, |step| match step {
            Step::Left(child) | Step::Right(child) => out.children.push(child.clone()),
            Step::Both(mine, theirs) => out.children.push((mine.0.clone(), mine.1.union(&theirs.1))),
        });
        out
    }

    /// Members of both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        zip(&self.members, &other.members, itself, itself, |step| {
            if let Step::Both(element, _) = step {
                out.members.push(element.clone());
            }
        });
        zip(&self.children, &other.children, first, first, |step| {
            if let Step::Both(mine, theirs) = step {
                out.push_child(&mine.0, mine.1.intersection(&theirs.1));
            }
        });
        out
    }

    /// Members that `other` has not. A parent in `other` does not take its children away.
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members_without(other), children: Vec::new() };
        zip(&self.children, &other.children, first, first, |step| match step {
            Step::Left(child) => out.children.push(child.clone()),
            Step::Right(_) => {}
            Step::Both(mine, theirs) => out.push_child(&mine.0, mine.1.difference(&theirs.1)),
        });
        out
    }

    /// Members that neither are in `other` nor lie below a member of it.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members_without(other), children: Vec::new() };
        zip(&self.children, &other.children, first, first, |step| match step {
            Step::Right(_) => {}
            Step::Left(child) => {
                if !other.has_member(&child.0) {
                    out.children.push(child.clone());
                }
            }
            Step::Both(mine, theirs) => {
                if !other.has_member(&mine.0) {
                    out.push_child(&mine.0, mine.1.recursive_difference(&theirs.1));
                }
            }
        });
        out
    }

    fn members_without(&self, other: &Self) -> Vec<PathElement> {
        let mut out = Vec::new();
        zip(&self.members, &other.members, itself, itself, |step| {
            if let Step::Left(element) = step {
                out.push(element.clone());
            }
        });
        out
    }

    fn push_child(&mut self, element: &PathElement, child: Self) {
        if !child.is_empty() {
            self.children.push((element.clone(), child));
        }
    }

    /// Whether every member is one of `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.members.iter().all(|element| other.has_member(element))
            && self
                .children
                .iter()
                .all(|(element, mine)| other.child(element).is_some_and(|theirs| mine.is_subset(theirs)))
    }

    /// Members that have no members below them.
    pub fn leaves(&self) -> Self {
        let mut out = Self::default();
        zip(&self.members, &self.children, itself, first, |step| {
            if let Step::Left(element) = step {
                out.members.push(element.clone());
            }
        });
        out.children =
            self.children.iter().map(|(element, child)| (element.clone(), child.leaves())).collect();
        out
    }

    /// Members that begin as one of the patterns does; a pattern that ends includes all below.
    pub fn matching(&self, patterns: &[&[Matcher]]) -> Self {
        if patterns.iter().any(|pattern| pattern.is_empty()) {
            return self.clone();
        }
        let tails = |element: &PathElement| -> Vec<&[Matcher]> {
            patterns
                .iter()
                .filter_map(|p| {
                    p.split_first().filter(|(head, _)| head.matches(element)).map(|(_, tail)| tail)
                })
                .collect()
        };
        let members = self.members.iter().filter(|element| !tails(element).is_empty()).cloned().collect();
        let mut out = Self { members, children: Vec::new() };
        for (element, child) in &self.children {
            let tails = tails(element);
            if !tails.is_empty() {
                out.push_child(element, child.matching(&tails));
            }
        }
        out
    }

    /// Calls `visit` with every member's path: members of a level first, then what is below its children.
    pub fn for_each(&self, mut visit: impl FnMut(&[PathElement])) {
        fn walk(set: &Set, path: &mut Vec<PathElement>, visit: &mut impl FnMut(&[PathElement])) {
            for element in &set.members {
                path.push(element.clone());
                visit(path);
                path.pop();
            }
            for (element, child) in &set.children {
                path.push(element.clone());
                walk(child, path, visit);
                path.pop();
            }
        }
        walk(self, &mut Vec::new(), &mut visit);
    }

    /// Every member's path, in the order of [`Set::for_each`].
    pub fn paths(&self) -> Vec<Path> {
        let mut out = Vec::with_capacity(self.len());
        self.for_each(|path| out.push(Path(path.to_vec())));
        out
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> Path {
        Path(text.split('.').map(PathElement::field).collect())
    }

    fn set(paths: &[&str]) -> Set {
        Set::of(&paths.iter().map(|p| path(p)).collect::<Vec<_>>())
    }

    fn element() -> impl Strategy<Value = PathElement> {
        prop_oneof![
            "[a-c]".prop_map(|name| PathElement::field(&name)),
            (0..3).prop_map(|n| PathElement::key(vec![("n".into(), json!(n))])),
            (0..3).prop_map(|n| PathElement::value(json!(n))),
            (0..2i64).prop_map(PathElement::Index),
        ]
    }

    pub(in super::super) fn any_set() -> impl Strategy<Value = Set> {
        prop::collection::vec(prop::collection::vec(element(), 1..4).prop_map(Path), 0..12)
            .prop_map(|paths| Set::of(&paths))
    }

    fn well_formed(set: &Set) -> bool {
        set.members.is_sorted_by(|a, b| a < b)
            && set.children.is_sorted_by(|a, b| a.0 < b.0)
            && set.children.iter().all(|(_, child)| !child.is_empty() && well_formed(child))
    }

    #[test]
    fn a_parent_is_no_member_by_its_child() {
        let s = set(&["a.b.c"]);
        assert!(s.has(&path("a.b.c").0) && !s.has(&path("a.b").0) && !s.has(&[]));
        assert_eq!(s.len(), 1);
    }

    #[test]
    fn a_recursive_difference_takes_what_is_below() {
        let s = set(&["a", "a.b", "a.b.c", "d"]);
        assert_eq!(s.recursive_difference(&set(&["a.b"])), set(&["a", "d"]));
        assert_eq!(s.difference(&set(&["a.b"])), set(&["a", "a.b.c", "d"]));
        assert_eq!(s.recursive_difference(&set(&["a"])), set(&["d"]));
    }

    #[test]
    fn leaves_have_nothing_below() {
        assert_eq!(set(&["a", "a.b", "a.b.c", "d"]).leaves(), set(&["a.b.c", "d"]));
    }

    #[test]
    fn patterns_include_what_is_below_them() {
        let s = set(&["a", "a.b.x", "a.c.x", "a.c.y", "d"]);
        let of = |names: &[&str]| -> Vec<Matcher> {
            names
                .iter()
                .map(|n| if *n == "*" { Matcher::Any } else { Matcher::Element(PathElement::field(n)) })
                .collect()
        };
        assert_eq!(s.matching(&[&of(&["a", "*", "x"])]), set(&["a", "a.b.x", "a.c.x"]));
        assert_eq!(s.matching(&[&of(&["a", "c"]), &of(&["d"])]), set(&["a", "a.c.x", "a.c.y", "d"]));
        assert_eq!(s.matching(&[&of(&["z"])]), Set::new());
    }

    proptest! {
        #[test]
        fn operations_agree_with_those_of_plain_sets_of_paths(a in any_set(), b in any_set()) {
            use std::collections::BTreeSet;
            let paths = |s: &Set| s.paths().into_iter().collect::<BTreeSet<_>>();
            let (pa, pb) = (paths(&a), paths(&b));
            let union = a.union(&b);
            let intersection = a.intersection(&b);
            let difference = a.difference(&b);
            let recursive = a.recursive_difference(&b);
            for s in [&union, &intersection, &difference, &recursive] {
                prop_assert!(well_formed(s));
            }
            prop_assert_eq!(paths(&union), pa.union(&pb).cloned().collect());
            prop_assert_eq!(paths(&intersection), pa.intersection(&pb).cloned().collect());
            prop_assert_eq!(paths(&difference), pa.difference(&pb).cloned().collect());
            let below = |p: &Path| (1..=p.0.len()).any(|n| pb.contains(&Path(p.0[..n].to_vec())));
            prop_assert_eq!(paths(&recursive), pa.iter().filter(|p| !below(p)).cloned().collect());
            prop_assert_eq!(a.is_subset(&b), pa.is_subset(&pb));
        }

        #[test]
        fn a_set_is_put_together_from_what_is_shared_and_what_is_not(a in any_set(), b in any_set()) {
            prop_assert_eq!(&a.difference(&b).union(&a.intersection(&b)), &a);
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.len(), a.paths().len());
            prop_assert_eq!(&Set::of(&a.paths()), &a);
        }
    }
}
