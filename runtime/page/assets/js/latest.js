// The newest of many.
//
// In: values, faster than they can be worked on. Out: work on one at a time, each time on the newest; those
// that came and went meanwhile are left out. It must never leave out the last one.

export class Latest {
  #work;
  #wanted;
  #running = null;

  /** `work(value)` is awaited. It must not throw. */
  constructor(work) {
    this.#work = work;
  }

  /** Has this value worked on. Resolves when the newest of all is done. */
  want(value) {
    this.#wanted = { value };
    this.#running ??= this.#run();
    return this.#running;
  }

  async #run() {
    let done;
    do {
      done = this.#wanted;
      await this.#work(done.value);
    } while (done !== this.#wanted);
    this.#running = null;
  }
}
