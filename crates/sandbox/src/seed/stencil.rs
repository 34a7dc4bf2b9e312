//! Text with holes: an object is written once with marks where its particulars go, and then stamped out by the thousand.

/// A mark and what stands in its place.
pub(super) type Mark<H> = (&'static str, H);

/// The JSON of an object, cut at its marks.
pub(super) struct Stencil<H> {
    pieces: Vec<(String, Option<H>)>,
}

impl<H: Copy> Stencil<H> {
    /// Cuts a text at every mark in it. No mark may be part of another.
    pub(super) fn cut(text: &str, marks: &[Mark<H>]) -> Stencil<H> {
        let mut pieces = Vec::new();
        let mut rest = text;
        loop {
            let next = marks.iter().filter_map(|(mark, hole)| rest.find(mark).map(|at| (at, *mark, *hole)));
            let Some((at, mark, hole)) = next.min_by_key(|(at, ..)| *at) else { break };
            pieces.push((rest[..at].to_owned(), Some(hole)));
            rest = &rest[at + mark.len()..];
        }
        pieces.push((rest.to_owned(), None));
        Stencil { pieces }
    }

    /// Writes the text, `fill` saying what goes into each hole.
    pub(super) fn stamp(&self, fill: impl Fn(H) -> String) -> String {
        let mut out = String::with_capacity(self.pieces.iter().map(|(text, _)| text.len() + 12).sum());
        for (text, hole) in &self.pieces {
            out.push_str(text);
            if let Some(hole) = hole {
                out.push_str(&fill(*hole));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_becomes_a_hole() {
        let stencil = Stencil::cut("{id:~n~,of:~n~,at:111}", &[("~n~", 'n'), ("111", 't')]);
        assert_eq!(stencil.stamp(String::from), "{id:n,of:n,at:t}");
        assert_eq!(Stencil::<char>::cut("plain", &[]).stamp(String::from), "plain");
    }
}
