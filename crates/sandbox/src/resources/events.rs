//! Events. The list is there and empty: nothing writes events yet.

use super::{Answer, Call, list, retrieve};
use crate::kind::Kind;
use crate::params::{Field, Spec, opt};
use crate::world::World;

pub(crate) const LIST: &[Field] =
    &[opt("type", Spec::Text), opt("types", Spec::List(&Spec::Text)), opt("delivery_success", Spec::Bool)];

pub(crate) fn page(world: &World, call: &Call<'_>) -> Answer {
    list(world, Kind::Event, call, &[])
}

pub(crate) fn one(world: &World, call: &Call<'_>) -> Answer {
    retrieve(world, Kind::Event, call)
}
