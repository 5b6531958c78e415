/** The ladder: what was simulated, tested with dust, and done, in three columns of one table. */
import { Fragment, useMemo } from 'react'
import type { Mode } from '../api/client'
import { amount, difference, money, short } from '../model/amounts'
import { type Flow, pathNames } from '../model/graph'
import { noEffects } from '../model/outcomes'
import { words } from '../words'
import { blockOf, MODES, type RequestRow, type Row, type Rungs, requestsOf, rowsOf } from './rows'

const said = words.ladder
type Named = Flow | null | undefined
type Props = {
  rungs: Rungs
  modes?: Mode[]
  selected?: string | null
  select?: (id: string) => void
  label?: string
  flow?: Named
}

export function Ladder({ rungs, modes = MODES, selected, select, label = said.label, flow }: Props) {
  const rows = useMemo(() => rowsOf(rungs), [rungs])
  const requests = useMemo(() => requestsOf(rungs), [rungs])
  const compares = modes.length === 3
  if (!rows.length && !requests.length)
    return <p className="quiet pad">{noEffects(modes.map((mode) => rungs[mode]).find(Boolean))}</p>
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={label}>
      <table className="ladder">
        <thead>
          <tr>
            <th scope="col">{said.step}</th>
            <th scope="col">{said.what}</th>
            {modes.map((mode) => (
              <Head key={mode} mode={mode} rungs={rungs} />
            ))}
            {compares && (
              <th scope="col" className="num diff">
                {said.difference}
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, i) => (
            <tr key={row.key} className={lookOf(row, rows[i - 1], selected)}>
              <Step row={row} last={rows[i - 1]} select={select} flow={flow} />
              <td title={row.title}>{row.what}</td>
              {modes.map((mode) => (
                <Amounts key={mode} mode={mode} row={row} />
              ))}
              {compares && <Difference row={row} />}
            </tr>
          ))}
          {requests.map((row, i) => (
            <tr key={row.key} className={lookOf(row, requests[i - 1], selected)}>
              <Step row={row} last={requests[i - 1]} select={select} flow={flow} />
              <td title={row.what}>{short(row.what)}</td>
              {modes.map((mode) => (
                <td key={mode} colSpan={2} className={`num c-${mode}`}>
                  <span className={`told ${row.told[mode]?.tone ?? ''}`}>{row.told[mode]?.text ?? '–'}</span>
                </td>
              ))}
              {compares && <td className="num diff">–</td>}
            </tr>
          ))}
          <Totals rungs={rungs} modes={modes} compares={compares} />
        </tbody>
      </table>
    </div>
  )
}

const lookOf = (row: Row | RequestRow, last: Row | RequestRow | undefined, selected?: string | null) =>
  `${row.nodeId === selected ? 'hot' : ''} ${row.path !== last?.path ? 'first' : ''}`

function Head({ mode, rungs }: { mode: Mode; rungs: Rungs }) {
  const effects = rungs[mode]
  const block = blockOf(effects)
  return (
    <th scope="col" colSpan={2} className={`num ${mode} c-${mode}`}>
      <span className="dot" aria-hidden />
      {words.modeNames[mode]}{' '}
      <small className={effects?.passed === false ? 'notpassed' : ''}>
        {!effects
          ? said.notRun
          : effects.passed === null || effects.passed === undefined
            ? words.runStatus[effects.status]
            : effects.passed
              ? words.runs.passed
              : words.runs.notPassed}
        {block !== null && ` · ${said.block(block)}`}
      </small>
    </th>
  )
}

function Step({
  row,
  last,
  select,
  flow,
}: {
  row: Row | RequestRow
  last?: Row | RequestRow
  select?: (id: string) => void
  flow?: Named
}) {
  if (row.path === last?.path) return <td />
  return (
    <th scope="row">
      {select ? (
        <button type="button" onClick={() => select(row.nodeId)}>
          {pathNames(flow, row.path)}
        </button>
      ) : (
        pathNames(flow, row.path)
      )}
    </th>
  )
}

function Amounts({ mode, row }: { mode: Mode; row: Row }) {
  const cell = row.cells[mode]
  return (
    <>
      <td className={`num c-${mode}`} title={cell && `${cell.formatted} ${cell.symbol}`}>
        {cell ? `${amount(cell.formatted)} ${cell.symbol}` : '–'}
      </td>
      <td className={`num usd c-${mode}`} title={cell?.usd ?? undefined}>
        {money(cell?.usd)}
      </td>
    </>
  )
}

function Difference({ row }: { row: Row }) {
  const { live, simulate } = row.cells
  if (!live || !simulate) return <td className="num diff">–</td>
  const text = difference(live.amount, simulate.amount)
  const units = (BigInt(live.amount) - BigInt(simulate.amount)).toString()
  return (
    <td className={`num diff ${text ? 'off' : 'same'}`} title={units}>
      {text ?? said.same}
    </td>
  )
}

function Totals({ rungs, modes, compares }: { rungs: Rungs; modes: Mode[]; compares: boolean }) {
  const verdicts = (mode: Mode) => {
    const all = (rungs[mode]?.transactions ?? []).map((tx) => tx.verdict?.outcome)
    const count = (outcome: string) => all.filter((one) => one === outcome).length
    const parts = [
      count('allow') && said.allowed(count('allow')),
      count('ask') && said.asked(count('ask')),
      count('deny') && said.denied(count('deny')),
    ]
    return parts.filter(Boolean).join(', ') || '–'
  }
  const hasFees = modes.some((mode) => rungs[mode]?.totalFees.length)
  if (!modes.some((mode) => rungs[mode]?.transactions.length)) return null
  return (
    <>
      {hasFees && (
        <tr className="first">
          <th scope="row" colSpan={2}>
            {said.fees}
          </th>
          {modes.map((mode) => {
            const fee = rungs[mode]?.totalFees[0]
            return (
              <Fragment key={mode}>
                <td className={`num c-${mode}`} title={fee?.amountFormatted ?? undefined}>
                  {fee ? `${amount(fee.amountFormatted)} ${fee.symbol ?? ''}` : '–'}
                </td>
                <td className={`num usd c-${mode}`}>{money(rungs[mode]?.totalFeesUsd)}</td>
              </Fragment>
            )
          })}
          {compares && <td className="num diff quiet">{said.estimate}</td>}
        </tr>
      )}
      <tr>
        <th scope="row" colSpan={2}>
          {said.policy}
        </th>
        {modes.map((mode) => (
          <td key={mode} colSpan={2} className={`num c-${mode}`}>
            {verdicts(mode)}
          </td>
        ))}
        {compares && <td className="diff" />}
      </tr>
    </>
  )
}

/** What a report warns of. */
export function Warnings({ rungs, flow }: { rungs: Rungs; flow?: Named }) {
  const all = MODES.flatMap((mode) => [...(rungs[mode]?.warnings ?? []), ...(rungs[mode]?.notPassed ?? [])])
  const texts = [...new Set(all.map((one) => `${one.path ? `${pathNames(flow, one.path)}: ` : ''}${one.message}`))]
  if (!texts.length) return null
  return (
    <ul className="warnings" aria-label={said.warnings}>
      {texts.map((text) => (
        <li key={text}>{text}</li>
      ))}
    </ul>
  )
}
