// A choice of one out of many, or of all.
import * as show from "../base/format";

interface ChoiceProps {
  readonly label: string;
  readonly value: string;
  readonly options: readonly (readonly [string, string])[];
  readonly onChoose: (value: string) => void;
}

/** A drop-down with "all" on top. */
export function Choice({ label, value, options, onChoose }: ChoiceProps) {
  const has = value === "" || options.some(([id]) => id === value);
  return (
    <label>
      {label}
      <select value={value} onChange={(event) => onChoose(event.currentTarget.value)}>
        <option value="">all</option>
        {!has && <option value={value}>{value}</option>}
        {options.map(([id, name]) => (
          <option key={id} value={id}>
            {show.middle(name, 40)}
          </option>
        ))}
      </select>
    </label>
  );
}
