//! A volume group as its metadata describes it, as far as leases and gates need it.

use super::label::Uuid;
use super::text::{Section, Value};

/// A volume group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub id: Uuid,
    /// Grows with every change.
    pub seqno: u64,
    /// Bytes of an extent.
    pub extent_bytes: u64,
    /// Who locks it: `sanlock`, `none`, ...; `None` where it is not shared.
    pub lock_type: Option<String>,
    /// Its physical volumes.
    pub pvs: Vec<Pv>,
    /// Its logical volumes, hidden ones too.
    pub lvs: Vec<Lv>,
}

/// A physical volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pv {
    /// What segments call it: `pv0`.
    pub name: String,
    /// Its UUID.
    pub id: Uuid,
    /// The device that it was on when the metadata was written, on the host that wrote it: a hint.
    pub device: String,
    /// Where its extents begin, in bytes.
    pub start: u64,
    /// LVM counts it as lost.
    pub missing: bool,
}

/// A logical volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lv {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub id: Uuid,
    /// Where its lease is, in lvmlockd's words: `1.0.0:70254592`.
    pub lock_args: Option<String>,
    /// Its segments on physical volumes, of one stripe.
    pub segments: Vec<Segment>,
    /// It has others too: stripes, mirrors, layers.
    pub layered: bool,
}

/// A stretch of a logical volume on one physical volume, in extents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its first extent in the logical volume.
    pub start: u64,
    /// How many.
    pub extents: u64,
    /// The physical volume, as the metadata calls it.
    pub pv: String,
    /// Its first extent there.
    pub pv_start: u64,
}

impl Group {
    /// Reads a whole text; `None` if it is not LVM's, or says too little.
    pub fn parse(text: &[u8]) -> Option<Group> {
        let text = Section::parse(text)?;
        if text.text("contents")? != "Text Format Volume Group" || text.number("version")? != 1 {
            return None;
        }
        let (name, group) = text.sections().next()?;
        let pvs = match group.section("physical_volumes") {
            Some(pvs) => pvs.sections().map(Pv::of).collect::<Option<_>>()?,
            None => Vec::new(),
        };
        let lvs = match group.section("logical_volumes") {
            Some(lvs) => lvs.sections().map(Lv::of).collect::<Option<_>>()?,
            None => Vec::new(),
        };
        Some(Group {
            name: name.to_owned(),
            id: Uuid::parse(group.text("id")?)?,
            seqno: group.number("seqno")?,
            extent_bytes: group.number("extent_size")?.checked_mul(512)?,
            lock_type: group.text("lock_type").map(str::to_owned),
            pvs,
            lvs,
        })
    }

    /// The logical volume of this UUID. The lease of one is named so.
    pub fn lv(&self, id: Uuid) -> Option<&Lv> {
        self.lvs.iter().find(|lv| lv.id == id)
    }
}

impl Pv {
    fn of((name, section): (&str, &Section)) -> Option<Pv> {
        let flags = section.values("flags").unwrap_or_default();
        // Older LVM says so in the status.
        let status = section.values("status").unwrap_or_default();
        let missing = |value: &Value| matches!(value, Value::Text(word) if word == "MISSING");
        Some(Pv {
            name: name.to_owned(),
            id: Uuid::parse(section.text("id")?)?,
            device: section.text("device").unwrap_or_default().to_owned(),
            start: section.number("pe_start")?.checked_mul(512)?,
            missing: flags.iter().chain(status).any(missing),
        })
    }
}

impl Lv {
    fn of((name, section): (&str, &Section)) -> Option<Lv> {
        let segments = section.sections();
        let found: Vec<Option<Segment>> =
            segments.map(|(_, segment)| Segment::of(segment)).collect();
        Some(Lv {
            name: name.to_owned(),
            id: Uuid::parse(section.text("id")?)?,
            lock_args: section.text("lock_args").map(str::to_owned),
            layered: found.contains(&None),
            segments: found.into_iter().flatten().collect(),
        })
    }
}

impl Segment {
    fn of(section: &Section) -> Option<Segment> {
        let stripes = section.values("stripes")?;
        let (true, [Value::Text(pv), Value::Number(pv_start)]) =
            (section.text("type")? == "striped", stripes)
        else {
            return None;
        };
        Some(Segment {
            start: section.number("start_extent")?,
            extents: section.number("extent_count")?,
            pv: pv.clone(),
            pv_start: u64::try_from(*pv_start).ok()?,
        })
    }
}
