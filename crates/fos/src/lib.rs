//! fos: services of the two nodes themselves that move from one to the other. What lvs.cf asks for
//! ([`site`]), what is to be done next ([`sequence`], pure), and the loop that does it
//! ([`supervisor`]).

pub mod load;
pub mod sequence;
pub mod shared_disk;
pub mod site;
pub mod supervisor;
