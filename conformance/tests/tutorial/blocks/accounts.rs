//! The owners of the cells. This is safe code behind one lock, and does not look at the bytes.

use zpool_core::PoolError;
use zpool_core::handle::Opened;
use zpool_core::page::Run;

use super::layout::Class;

#[derive(Debug, Default)]
pub struct Accounts {
    /// A cell is known here by its number, which is the index in its object's handle.
    cells: Vec<Cell>,
    blocks: Vec<Block>,
    classes: Vec<ClassAccounts>,
    pub objects: usize,
    pub zombies: usize,
    /// The bytes of objects and zombies, and of their cells.
    pub payload: usize,
    pub in_cells: usize,
    pub frames: usize,
    pub failed_inserts: u64,
}

#[derive(Debug)]
struct Cell {
    block: usize,
    state: State,
    /// Grows with each object that leaves, so that a handle of an earlier one is recognized as
    /// stale.
    generation: u16,
    guards: u16,
    len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Live,
    /// Freed, with a guard that still reads it.
    Zombie,
}

#[derive(Debug)]
struct Block {
    class: Class,
    /// The number of its first cell.
    first: usize,
    /// Cells that are not free.
    used: usize,
    /// `None` after its release. Its cells keep their numbers and generations for the next run.
    run: Option<Run>,
}

#[derive(Debug, Default)]
struct ClassAccounts {
    /// The free cells of blocks with a run. There is room for all cells of the class, so that
    /// freeing allocates nothing (F5).
    free: Vec<usize>,
    /// Blocks without a run.
    vacant: Vec<usize>,
    cells: usize,
}

/// The place of an object.
#[derive(Debug)]
pub struct Place<'a> {
    pub run: &'a Run,
    pub offset: usize,
    pub len: usize,
}

impl Accounts {
    /// Takes a free cell for an object of `len` bytes. Returns its number and generation, or `None`
    /// if the class has none.
    pub fn take(&mut self, len: usize) -> Option<(usize, u16)> {
        let class = Class::of(len);
        let number = self.classes.get_mut(class.0)?.free.pop()?;
        let cell = &mut self.cells[number];
        (cell.state, cell.len) = (State::Live, len);
        self.blocks[cell.block].used += 1;
        self.objects += 1;
        self.payload += len;
        self.in_cells += class.cell();
        Some((number, cell.generation))
    }

    /// Returns whether one more block would have cell numbers that a handle cannot hold.
    pub fn is_full(&self) -> bool {
        self.cells.len() > (u32::MAX >> 1) as usize
    }

    /// Adds a block whose `run` has `frames` frames.
    pub fn add(&mut self, class: Class, run: Run, frames: usize) {
        if self.classes.len() <= class.0 {
            self.classes.resize_with(class.0 + 1, ClassAccounts::default);
        }
        let accounts = &mut self.classes[class.0];
        let cells = run.len() / class.cell();
        let first = match accounts.vacant.pop() {
            Some(block) => {
                self.blocks[block].run = Some(run);
                self.blocks[block].first
            }
            None => {
                let (block, first) = (self.blocks.len(), self.cells.len());
                self.blocks.push(Block { class, first, used: 0, run: Some(run) });
                let cell = || Cell { block, state: State::Free, generation: 0, guards: 0, len: 0 };
                self.cells.extend(std::iter::repeat_with(cell).take(cells));
                accounts.cells += cells;
                first
            }
        };
        accounts.free.reserve(accounts.cells - accounts.free.len());
        accounts.free.extend((first..first + cells).rev());
        self.frames += frames;
    }

    /// Returns the number of the object of a handle, which this pool has made or a caller has made
    /// up.
    pub fn find(&self, opened: Opened) -> Result<usize, PoolError> {
        let number = opened.index as usize;
        let cell = self.cells.get(number).filter(|cell| cell.state == State::Live);
        cell.filter(|cell| cell.generation == opened.generation)
            .map(|_| number)
            .ok_or(PoolError::StaleHandle)
    }

    pub fn place(&self, number: usize) -> Place<'_> {
        let cell = &self.cells[number];
        let block = &self.blocks[cell.block];
        let run = block.run.as_ref().expect("a block with objects has a run");
        Place { run, offset: (number - block.first) * block.class.cell(), len: cell.len }
    }

    /// Adds a guard to an object.
    pub fn pin(&mut self, number: usize) -> Result<(), PoolError> {
        let guards = &mut self.cells[number].guards;
        *guards = guards.checked_add(1).ok_or(PoolError::TooManyReaders)?;
        Ok(())
    }

    /// Removes a guard. The last guard of a zombie frees its cell.
    pub fn unpin(&mut self, number: usize) {
        let cell = &mut self.cells[number];
        cell.guards -= 1;
        if cell.guards == 0 && cell.state == State::Zombie {
            self.zombies -= 1;
            self.vacate(number);
        }
    }

    /// Ends the life of an object that was [found](Self::find).
    pub fn remove(&mut self, number: usize) {
        self.objects -= 1;
        let cell = &mut self.cells[number];
        if cell.guards > 0 {
            cell.state = State::Zombie;
            self.zombies += 1;
        } else {
            self.vacate(number);
        }
    }

    fn vacate(&mut self, number: usize) {
        let cell = &mut self.cells[number];
        let block = &mut self.blocks[cell.block];
        cell.state = State::Free;
        cell.generation = cell.generation.wrapping_add(1);
        block.used -= 1;
        self.payload -= cell.len;
        self.in_cells -= block.class.cell();
        self.classes[block.class.0].free.push(number);
    }

    /// Takes the runs of all blocks without an object, or of all blocks.
    pub fn take_runs(&mut self, even_used: bool) -> Vec<Run> {
        let mut runs = Vec::new();
        for (number, block) in self.blocks.iter_mut().enumerate() {
            if (block.used == 0 || even_used) && block.run.is_some() {
                runs.extend(block.run.take());
                self.classes[block.class.0].vacant.push(number);
            }
        }
        let (cells, blocks) = (&self.cells, &self.blocks);
        for class in &mut self.classes {
            class.free.retain(|&number| blocks[cells[number].block].run.is_some());
        }
        runs
    }

    /// Returns the bytes on the heap.
    pub fn metadata(&self) -> usize {
        let lists = |class: &ClassAccounts| {
            (class.free.capacity() + class.vacant.capacity()) * size_of::<usize>()
        };
        self.cells.capacity() * size_of::<Cell>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.classes.capacity() * size_of::<ClassAccounts>()
            + self.classes.iter().map(lists).sum::<usize>()
    }

    /// Counts everything again. Returns the first figure that differs.
    pub fn recount(&self) -> Result<(), String> {
        let used = self.cells.iter().filter(|cell| cell.state != State::Free);
        let payload: usize = used.clone().map(|cell| cell.len).sum();
        let count = used.count();
        if (count, payload) != (self.objects + self.zombies, self.payload) {
            return Err(format!("{count} cells with {payload} bytes are in use, booked {self:?}"));
        }
        for (nth, class) in self.classes.iter().enumerate() {
            let blocks =
                self.blocks.iter().filter(|block| block.class.0 == nth && block.run.is_some());
            let (len, used) = blocks.fold((0, 0), |(len, used), block| {
                (
                    len + block.run.as_ref().map_or(0, Run::len) / block.class.cell(),
                    used + block.used,
                )
            });
            if class.free.len() + used != len {
                return Err(format!(
                    "class {nth}: {} free and {used} used cells of {len}",
                    class.free.len()
                ));
            }
        }
        Ok(())
    }
}
