/** Beside an address: one's own wallets to fill it in, or whose of them it is. */
import { useEveryOne } from '../api/queries'
import { words } from '../words'

const said = words.inspector
const SHOWN = 4

export function OwnWallets({ address, pick }: { address: string; pick: (address: string) => void }) {
  const wallets = useEveryOne('/v1/wallets')
  const own = wallets.find((one) => one.address.toLowerCase() === address.toLowerCase())
  if (address) return own ? <small className="quiet">{said.isOwnWallet(own.name)}</small> : null
  if (!wallets.length) return null
  return (
    <small className="quiet ownwallets">
      {said.ownWallets}{' '}
      {wallets.slice(0, SHOWN).map((one) => (
        <button type="button" className="link" key={one.id} title={one.address} onClick={() => pick(one.address)}>
          {one.name}
        </button>
      ))}
    </small>
  )
}
