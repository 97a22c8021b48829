//! The director's table keeper: what lvs.cf asks for and what the monitors find, brought into the
//! kernel's IPVS table and kept there.
//!
//! [`site`] reads a configuration, [`live`] knows what the table should hold (both without I/O),
//! [`monitors`] runs the nannies, and [`director`] is the loop that joins them with the table and
//! the control socket. [`status`] is what it tells.

pub mod director;
pub mod live;
pub mod load;
pub mod monitors;
mod report;
pub mod site;
pub mod status;
