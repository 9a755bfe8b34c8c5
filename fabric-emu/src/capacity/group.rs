//! Memory that was added together, and how logical devices have it.

use std::collections::BTreeMap;

use crate::cci::Tag;
use crate::id::LdId;
use crate::span::Span;

/// No tag.
pub const NO_TAG: Tag = Tag([0; 16]);

/// Which group of its device; rises with each one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub(super) u32);

/// An extent, as a host is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its addresses.
    pub span: Span,
    /// The tag of its group.
    pub tag: Tag,
    /// Which one of its group it is, from 1, where that is sharable; else 0.
    pub sequence: u16,
}

/// How far a view has come: see [`capacity`](super).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewState {
    /// The host was told of it and has not answered.
    Offered,
    /// The host may use it.
    Added,
    /// The same, and the manager has asked for some of it.
    Leaving,
}

/// A group as one logical device has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) state: ViewState,
    pub(super) region: usize,
    /// What the host is told of, in order.
    pub(super) extents: Vec<Span>,
}

impl View {
    pub(super) fn is_added(&self) -> bool {
        matches!(self.state, ViewState::Added | ViewState::Leaving)
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) tag: Tag,
    pub(super) is_sharable: bool,
    pub(super) is_hardware_coherent: bool,
    pub(super) sanitizes: bool,
    pub(super) is_referenced: bool,
    /// Its memory, in the order of the extents of each of its views.
    pub(super) pieces: Vec<Span>,
    pub(super) views: BTreeMap<LdId, View>,
}

impl Group {
    pub(super) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// The extents of a view, as its host is told of them.
    pub(super) fn extents(&self, view: &View) -> Vec<Extent> {
        let numbered = (1..).zip(&view.extents);
        let extent = |(number, &span): (u16, &Span)| Extent {
            span,
            tag: self.tag,
            sequence: if self.is_sharable { number } else { 0 },
        };
        numbered.map(extent).collect()
    }

    /// A part of an extent of the view of `ld`, as its host is told of it.
    pub(super) fn extent_of(&self, ld: LdId, span: Span) -> Extent {
        let all = self.views.get(&ld).map(|view| self.extents(view));
        let whole = all
            .into_iter()
            .flatten()
            .find(|extent| extent.span.contains(span));
        Extent {
            span,
            tag: self.tag,
            sequence: whole.map_or(0, |extent| extent.sequence),
        }
    }

    /// Where the bytes of a view are: addresses, and the memory there, in pieces of both.
    pub(super) fn parts(&self, view: &View) -> Vec<(Span, u64)> {
        let mut parts = Vec::new();
        let (mut pieces, mut left) = (self.pieces.iter().copied(), None);
        for &extent in &view.extents {
            let mut extent = Some(extent);
            while let Some(addresses) = extent {
                let Some(piece) = left.take().or_else(|| pieces.next()) else {
                    return parts;
                };
                let bytes = addresses.bytes.min(piece.bytes);
                parts.extend(Span::new(addresses.start, bytes).map(|it| (it, piece.start)));
                extent = Span::new(addresses.start + bytes, addresses.bytes - bytes);
                left = Span::new(piece.start + bytes, piece.bytes - bytes);
            }
        }
        parts
    }
}
