theorem Iff.refl (a : Prop) : Iff a a := Iff.intro (fun h => h) (fun h => h)
theorem Iff.rfl {a : Prop} : Iff a a := Iff.refl a
theorem Iff.symm {a b : Prop} (h : Iff a b) : Iff b a := Iff.intro h.mpr h.mp
theorem Iff.trans {a b c : Prop} (h₁ : Iff a b) (h₂ : Iff b c) : Iff a c :=
  Iff.intro (fun x => h₂.mp (h₁.mp x)) (fun x => h₁.mpr (h₂.mpr x))
theorem rfl {α : Sort u} {a : α} : Eq a a := Eq.refl a
theorem Eq.subst {α : Sort u} {motive : α → Prop} {a b : α} (h₁ : Eq a b) (h₂ : motive a) : motive b :=
  Eq.rec (motive := fun x _ => motive x) h₂ h₁
theorem Eq.symm {α : Sort u} {a b : α} (h : Eq a b) : Eq b a := Eq.subst (motive := fun x => Eq x a) h rfl
theorem Eq.trans {α : Sort u} {a b c : α} (h₁ : Eq a b) (h₂ : Eq b c) : Eq a c :=
  Eq.subst (motive := fun x => Eq a x) h₂ h₁
theorem congrArg {α : Sort u} {β : Sort v} {a₁ a₂ : α} (f : α → β) (h : Eq a₁ a₂) : Eq (f a₁) (f a₂) :=
  Eq.subst (motive := fun x => Eq (f a₁) (f x)) h rfl
def Ne {α : Sort u} (a b : α) : Prop := Not (Eq a b)
theorem Ne.symm {α : Sort u} {a b : α} (h : Ne a b) : Ne b a := fun e => h e.symm
axiom propext {a b : Prop} : Iff a b → Eq a b
init_quot
axiom Quot.sound : ∀ {α : Sort u} {r : α → α → Prop} {a b : α}, r a b → Eq (Quot.mk r a) (Quot.mk r b)
noncomputable def funext.value {α : Sort u} {β : α → Sort v} (q : Quot (fun f g : (x : α) → β x => ∀ x, Eq (f x) (g x))) (x : α) :
    β x := Quot.lift (fun f => f x) (fun _ _ h => h x) q
theorem funext {α : Sort u} {β : α → Sort v} {f g : (x : α) → β x} (h : ∀ x, Eq (f x) (g x)) : Eq f g :=
  show Eq (funext.value (Quot.mk _ f)) (funext.value (Quot.mk _ g)) from congrArg funext.value (Quot.sound h)
inductive Nonempty (α : Sort u) : Prop where
  | intro (val : α) : Nonempty α
axiom Classical.choice {α : Sort u} : Nonempty α → α
structure Subtype {α : Sort u} (p : α → Prop) where
  val : α
  property : p val
noncomputable def Classical.pick {α : Sort u} (p : α → Prop) (h : Exists p) : Subtype p :=
  Classical.choice (Exists.elim h (fun w hw => Nonempty.intro (Subtype.mk w hw)))
theorem Classical.em (p : Prop) : Or p (Not p) :=
  have u : Exists (fun x : Prop => Or (Eq x True) p) := Exists.intro True (Or.inl rfl)
  have v : Exists (fun x : Prop => Or (Eq x False) p) := Exists.intro False (Or.inl rfl)
  have same : p → Eq (Classical.pick _ u).val (Classical.pick _ v).val := fun h =>
    have alike : Eq (fun x : Prop => Or (Eq x True) p) (fun x : Prop => Or (Eq x False) p) :=
      funext (fun _ => propext (Iff.intro (fun _ => Or.inr h) (fun _ => Or.inr h)))
    Eq.rec (motive := fun q _ => ∀ e : Exists q, Eq (Classical.pick _ u).val (Classical.pick q e).val)
      (fun _ => rfl) alike v
  Or.elim (Classical.pick _ u).property
    (fun isTrue => Or.elim (Classical.pick _ v).property
      (fun isFalse => Or.inr (fun h =>
        Eq.subst (motive := fun x => x) (Eq.trans (Eq.trans isTrue.symm (same h)) isFalse) True.intro))
      Or.inl)
    Or.inl
theorem Classical.byContradiction {p : Prop} (h : Not p → False) : p :=
  Or.elim (Classical.em p) (fun x => x) (fun x => False.elim (h x))
