/** Beside an empty schedule: usual ones, in words, since nobody knows their spelling by heart. */
import { words } from '../words'

const said = words.inspector
type Times = Record<keyof typeof said.oftenChoices, string>
const rule = (frequency: string) => `DTSTART:20260101T090000\nRRULE:FREQ=${frequency}`
const USUAL: Record<string, Times> = {
  'cronjob schedule': {
    hourly: '0 * * * *',
    daily: '0 9 * * *',
    weekly: '0 9 * * MON',
    monthly: '0 9 1 * *',
  },
  'schedule rrule': {
    hourly: rule('HOURLY'),
    daily: rule('DAILY'),
    weekly: rule('WEEKLY;BYDAY=MO'),
    monthly: rule('MONTHLY;BYMONTHDAY=1'),
  },
}

type Props = { type: string; name: string; value: unknown; pick: (text: string) => void }

export function Often({ type, name, value, pick }: Props) {
  const usual = USUAL[`${type} ${name}`]
  if (!usual || value) return null
  return (
    <small className="quiet ownwallets">
      {said.often}{' '}
      {Object.entries(said.oftenChoices).map(([key, label]) => (
        <button type="button" className="link" key={key} onClick={() => pick(usual[key as keyof Times])}>
          {label}
        </button>
      ))}
    </small>
  )
}
