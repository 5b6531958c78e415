/** One field of a step: a choice, a switch, or text that may be an expression. */
import { NativeSelect, Switch, Tooltip } from '@mantine/core'
import { IconMathFunction } from '@tabler/icons-react'
import { useState } from 'react'
import type { Json, Problem } from '../api/client'
import { plain, readable } from '../model/amounts'
import { words } from '../words'
import { useChoices } from './choices'
import { inWords } from './duration'
import { Expression } from './Expression'
import { OwnWallets } from './OwnWallets'
import type { Context } from './paths'
import { Seen } from './Seen'
import { choicesOf, fromText, kindsOf, type Schema, toText, widgetOf } from './schema'
import { Workflows } from './Workflows'

const said = words.inspector
// addresses of programs on a chain: never one's own wallet
const NOT_OURS = /contract|token|spender|pool|pair|router|factory|feed|oracle/i
type Props = {
  name: string
  schema: Schema
  isRequired: boolean
  value: unknown
  example: unknown
  payload: Json
  onChange: (value: unknown) => void
  context: Context
  problems: Problem[]
  takePasted?: (text: string) => boolean
}

export function Field(props: Props) {
  const { name, schema, isRequired, value, example, payload, onChange, context, problems, takePasted } = props
  const label = readable(name)
  const kinds = kindsOf(schema)
  const isMany = kinds[0] === 'array'
  const hinted = widgetOf(schema)
  const widget = isMany ? undefined : hinted
  const isWorkflow = hinted === 'workflow'
  const known = useChoices(schema, widget, payload, toText(value))
  const choices = choicesOf(schema) ?? known
  const isSwitch = kinds.length === 1 && kinds[0] === 'boolean'
  const [isFree, setIsFree] = useState(typeof value === 'string' && value.includes('{{'))
  const isBare = name === 'expression'
  const faults = problems.length ? `fault-${name}` : undefined
  // nobody has done anything wrong before they began
  const isUnfilled = isRequired && value === undefined
  const sample = toText(example)
  const hint =
    schema.default !== undefined && schema.default !== null ? toText(schema.default) : sample && said.forExample(sample)
  return (
    <div className="field">
      <div className="lab">
        <span>
          {label}
          {isRequired && (
            <span className="req" title={said.required}>
              {' '}
              *
            </span>
          )}
        </span>
        {schema.description && (
          <Tooltip
            label={plain(schema.description)}
            multiline
            w={260}
            withArrow
            events={{ hover: true, focus: true, touch: true }}
          >
            <button type="button" className="q" aria-label={said.about(label)}>
              ?
            </button>
          </Tooltip>
        )}
        {(choices || isSwitch || isWorkflow) && (
          <button
            type="button"
            className={`fx ${isFree ? 'on' : ''}`}
            aria-pressed={isFree}
            aria-label={said.asExpression(label)}
            onClick={() => setIsFree(!isFree)}
          >
            <IconMathFunction size={15} aria-hidden />
          </button>
        )}
      </div>
      {isWorkflow && !isFree ? (
        <Workflows
          label={label}
          value={(isMany ? ((Array.isArray(value) ? value : []) as unknown[]) : value ? [value] : []).map(toText)}
          isMany={isMany}
          isRequired={isRequired}
          onChange={(ids) => onChange(isMany && ids.length ? ids : isMany ? undefined : ids[0])}
        />
      ) : choices && !isFree ? (
        <NativeSelect
          aria-label={label}
          data={[...(isRequired && value !== undefined ? [] : ['']), ...choices]}
          value={toText(value ?? schema.default)}
          onChange={(event) =>
            onChange(known ? fromText(event.currentTarget.value, schema) : event.currentTarget.value || undefined)
          }
        />
      ) : isSwitch && !isFree ? (
        <Switch
          aria-label={label}
          checked={Boolean(value ?? schema.default)}
          onChange={(event) => onChange(event.currentTarget.checked)}
        />
      ) : (
        <Expression
          value={toText(value)}
          name={name}
          held={value}
          label={label}
          describedBy={faults}
          context={context}
          problems={isUnfilled ? [] : problems}
          isBare={isBare}
          hint={hint.length > 80 ? '' : hint}
          takePasted={takePasted}
          onChange={(text) => onChange(fromText(text, schema))}
        />
      )}
      {widget === 'address' && !NOT_OURS.test(name) && <OwnWallets address={toText(value)} pick={onChange} />}
      {widget === 'duration' && <small className="quiet">{inWords(toText(value ?? schema.default))}</small>}
      {typeof value === 'string' && <Seen text={value} context={context} isBare={isBare} />}
      {faults && (
        <div id={faults} className={isUnfilled ? 'err yet' : 'err'} role={isUnfilled ? undefined : 'alert'}>
          {problems.map((one, i) => (
            <p key={i}>{one.message.split('\n')[0]}</p>
          ))}
        </div>
      )}
    </div>
  )
}
