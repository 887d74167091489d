/** What a button or a form does: one thing at a time, and what the last one was refused with. */
export class Attempt {
  busy = $state(false);
  error = $state<unknown>();

  /** Whether it was done. */
  run = async (work: () => unknown): Promise<boolean> => {
    this.busy = true;
    this.error = undefined;
    try {
      await work();
      return true;
    } catch (caught) {
      this.error = caught;
      return false;
    } finally {
      this.busy = false;
    }
  };

  /** The same for what a form sends. */
  submit = (work: () => unknown) => (event: SubmitEvent) => {
    event.preventDefault();
    void this.run(work);
  };
}
