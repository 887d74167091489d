//! The table of figures, a line at a time, so that a run that is cut short has said what it knew.

pub struct Table {
    missed: usize,
}

impl Table {
    pub fn new() -> Self {
        println!("{:<52} {:<12} {:<44} verdict", "figure", "target", "measured");
        Self { missed: 0 }
    }

    pub fn at_least(&mut self, figure: &str, target: f64, measured: f64, detail: &str) {
        self.row(figure, &format!(">= {target}"), &format!("{measured:.2} ({detail})"), measured >= target);
    }

    pub fn at_most(&mut self, figure: &str, target: f64, unit: &str, measured: f64, detail: &str) {
        let target_text = format!("<= {target} {unit}");
        self.row(figure, &target_text, &format!("{measured:.2} {unit} ({detail})"), measured <= target);
    }

    /// Something to know about a figure that has no target of its own.
    pub fn note(&self, figure: &str, measured: &str) {
        println!("{figure:<52} {:<12} {measured}", "-");
    }

    pub fn all_met(&self) -> bool {
        self.missed == 0
    }

    fn row(&mut self, figure: &str, target: &str, measured: &str, met: bool) {
        self.missed += usize::from(!met);
        println!("{figure:<52} {target:<12} {measured:<44} {}", if met { "met" } else { "MISSED" });
    }
}
