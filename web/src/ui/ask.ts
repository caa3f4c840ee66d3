// Answers of GET requests as state of a component: asked anew when the path changes, and every so often if wanted.
import { useSignal, type Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { getJson, Refusal } from "../base/http";
import { asRow, type Row } from "../base/rows";

export interface Answer {
  readonly data: Row | null;
  readonly error: Refusal | null;
  readonly busy: boolean;
}

export interface Asked {
  readonly answer: Signal<Answer>;
  /** Asks again now. */
  readonly again: () => void;
}

/** Asks `path`; null asks nothing. `every`: again after this number of ms, while the tab is seen. */
export function useAsk(path: string | null, every = 0): Asked {
  const answer = useSignal<Answer>({ data: null, error: null, busy: path !== null });
  const turn = useSignal(0);
  const turnNow = turn.value;
  useEffect(() => {
    if (path === null) {
      answer.value = { data: null, error: null, busy: false };
      return undefined;
    }
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = async (): Promise<void> => {
      if (!document.hidden) await once(path, answer, stop);
      if (every > 0 && !stop.signal.aborted) timer = setTimeout(() => void ask(), every);
    };
    answer.value = { ...answer.peek(), busy: true };
    void ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [path, every, turnNow]);
  return { answer, again: () => (turn.value += 1) };
}

async function once(path: string, answer: Signal<Answer>, stop: AbortController): Promise<void> {
  try {
    const said = await getJson(path, stop.signal);
    if (stop.signal.aborted) return;
    const data = Array.isArray(said) ? { items: said } : asRow(said);
    answer.value = { data, error: null, busy: false };
  } catch (error) {
    if (stop.signal.aborted) return;
    const refusal = error instanceof Refusal ? error : new Refusal(0, "the answer could not be read", "");
    answer.value = { data: answer.peek().data, error: refusal, busy: false };
  }
}
