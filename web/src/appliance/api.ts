// The appliance's REST as the shell uses it. The same calls work with curl.
import { useEffect } from "preact/hooks";
import { act, Refusal } from "../base/http";
import { absolute, hash } from "../base/url";
import { useAsk, type Asked } from "../ui/ask";

/** Where it is, relative to the base. */
export const API = "api/rask/v1";

/** Asks the REST. */
export function useApi(path: string | null, every = 0): Asked {
  return useAsk(path === null ? null : API + path, every);
}

/** Calls `news` when something happened to any cluster. Where the stream does not get through, polling goes on. */
export function useNews(news: () => void): void {
  useEffect(() => {
    const source = new EventSource(absolute(`${API}/events`));
    let due: ReturnType<typeof setTimeout> | undefined;
    const heard = (): void => {
      // A burst of news is one look.
      clearTimeout(due);
      due = setTimeout(news, 150);
    };
    for (const name of ["created", "status", "target", "workers", "worker-died", "missed"])
      source.addEventListener(name, heard);
    source.onerror = () => source.readyState === EventSource.CLOSED && source.close();
    return () => {
      clearTimeout(due);
      source.close();
    };
  }, []);
}

/** Does something; the answer is an error to show, or null. */
export async function attempt(
  method: string,
  path: string,
  body?: unknown,
): Promise<{ answer: unknown; error: Refusal | null }> {
  try {
    return { answer: await act(method, API + path, body), error: null };
  } catch (error) {
    return {
      answer: null,
      error: error instanceof Refusal ? error : new Refusal(0, "that did not work", "Try again."),
    };
  }
}

/** The query after the place in the hash: `#/logs?cluster=x`. */
export function hashQuery(): URLSearchParams {
  return new URLSearchParams(hash.value.split("?")[1] ?? "");
}
