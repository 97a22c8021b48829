//! The recipes in use, each kept and prepared once however many checks follow it.

use crate::exchange::Prepared;
use crate::recipe::Recipe;
use std::collections::HashMap;
use std::rc::Rc;

/// A recipe's number.
pub(crate) type RecipeId = u32;

#[derive(Debug, Default)]
pub(crate) struct Recipes {
    slots: Vec<Option<Slot>>,
    free: Vec<RecipeId>,
    by_recipe: HashMap<Rc<Recipe>, RecipeId>,
}

#[derive(Debug)]
struct Slot {
    prepared: Rc<Prepared>,
    users: u32,
}

impl Recipes {
    /// Counts one more use of a recipe and gives its number.
    pub(crate) fn take(&mut self, recipe: &Recipe) -> RecipeId {
        if let Some(id) = self.by_recipe.get(recipe).copied() {
            if let Some(Some(slot)) = self.slots.get_mut(id as usize) {
                slot.users += 1;
            }
            return id;
        }
        let recipe = Rc::new(recipe.clone());
        let slot = Slot { prepared: Rc::new(Prepared::new(Rc::clone(&recipe))), users: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = Some(slot);
                id
            }
            None => {
                self.slots.push(Some(slot));
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.by_recipe.insert(recipe, id);
        id
    }

    /// Gives up one use; with the last one the recipe is forgotten.
    pub(crate) fn release(&mut self, id: RecipeId) {
        let Some(place) = self.slots.get_mut(id as usize) else { return };
        let Some(slot) = place else { return };
        slot.users -= 1;
        if slot.users == 0 {
            self.by_recipe.remove(&slot.prepared.recipe);
            *place = None;
            self.free.push(id);
        }
    }

    pub(crate) fn get(&self, id: RecipeId) -> Option<&Rc<Prepared>> {
        self.slots.get(id as usize)?.as_ref().map(|slot| &slot.prepared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Action;

    #[test]
    fn equal_recipes_are_one_until_nobody_uses_them() {
        let recipe = |interval_ms| Recipe {
            action: Action::Exchange { send: None, expect: None },
            interval_ms,
        };
        let mut recipes = Recipes::default();
        let one = recipes.take(&recipe(1));
        assert_eq!(recipes.take(&recipe(1)), one);
        let two = recipes.take(&recipe(2));
        assert_ne!(one, two);
        recipes.release(one);
        assert!(recipes.get(one).is_some());
        recipes.release(one);
        assert!(recipes.get(one).is_none());
        recipes.release(one);
        assert_eq!(recipes.take(&recipe(3)), one, "a free place is used again");
        assert_eq!(recipes.get(one).map(|p| p.recipe.interval_ms), Some(3));
        assert_eq!(recipes.get(two).map(|p| p.recipe.interval_ms), Some(2));
        assert!(recipes.by_recipe.len() == 2 && recipes.slots.len() == 2);
    }
}
