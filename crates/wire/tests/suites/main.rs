//! Tests of the codecs from outside. One program: what they are linked with is linked once.

#![allow(clippy::unwrap_used)]

mod corpus;
mod frames_engine;
mod frames_query;
mod frames_sse;
mod frames_ws;
mod packets_properties;
mod packets_vectors;
