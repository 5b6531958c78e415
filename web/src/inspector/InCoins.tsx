/** An amount in whole coins beside its base units: written in either, kept in base units. */
import { TextInput } from '@mantine/core'
import { useState } from 'react'
import type { Json } from '../api/client'
import { Exact } from '../api/exact'
import { fromUnits } from '../model/amounts'
import { units as said } from '../words.palette'
import { type Coin, toUnits, useCoin } from './units'

type Change = (units: string | undefined) => void
type Props = { type: string; name: string; payload: Json; onChange: Change }

export function InCoins({ type, name, payload, onChange }: Props) {
  const coin = useCoin(type, name, payload)
  return coin && <Whole key={coin.symbol} value={payload[name]} coin={coin} onChange={onChange} />
}

/** Nothing is shown for an expression, or for words such as `max`. */
function Whole({ value, coin, onChange }: { value: unknown; coin: Coin; onChange: Change }) {
  const units = value instanceof Exact ? value.text : String(value ?? '')
  const [typed, setTyped] = useState<string | null>(null)
  if (units && !/^\d+$/.test(units)) return null
  const whole = units ? fromUnits(BigInt(units), coin.decimals) : ''
  const isWrong = typed !== null && typed !== '' && toUnits(typed, coin.decimals) === null
  const write = (text: string) => {
    setTyped(text)
    const next = text === '' ? undefined : toUnits(text, coin.decimals)
    if (next !== null) onChange(next)
  }
  return (
    <TextInput
      mt={4}
      size="xs"
      inputMode="decimal"
      label={said.label(coin.symbol)}
      value={typed ?? whole}
      error={isWrong && said.wrong(coin.symbol, coin.decimals)}
      onChange={(event) => write(event.currentTarget.value)}
      onBlur={() => !isWrong && setTyped(null)}
    />
  )
}
